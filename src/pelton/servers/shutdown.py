"""How long the server takes to end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShutdownTimes:
    """How the server ends.

    Attributes:
        shutdown_delay_s: between turning not ready and refusing requests, for a load balancer
            to notice.
        shutdown_grace_s: for the running requests to finish.
    """

    shutdown_delay_s: float = 0.0
    shutdown_grace_s: float = 30.0
