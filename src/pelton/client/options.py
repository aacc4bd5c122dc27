"""How long a client waits, how often it tries and how much it takes: three small records."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pelton.errors import InvalidRequest, SettingsError

DEFAULT_URL = "http://127.0.0.1:50000"
"""Where `pelton serve` listens if nothing else is said."""

MAX_CONNECTIONS = 64
"""Connections that one client opens at once."""

MAX_REPLY_BYTES = 1024**3
"""Largest reply that a client takes: a bound against mistakes, not a budget."""


GOODBYE_S = 2.0
"""For telling the server at the end what it need not keep any more; it may be gone itself."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part of a call may take, in seconds.

    Attributes:
        connect_s: to reach the server, TLS included. Looking up a host name is not bounded.
        attempt_s: one try, from taking a connection to the last byte of the answer; None means
            whatever `request_s` leaves.
        request_s: the whole call, with every repetition and the pauses between them.
        idle_s: how long an unused connection is kept for the next request. Shorter than the
            server keeps it, so that the server seldom closes it under a request.

    Raises:
        SettingsError: a value is not a positive number.
    """

    connect_s: float = 5.0
    attempt_s: float | None = None
    request_s: float = 60.0
    idle_s: float = 4.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "attempt_s", "request_s", "idle_s"):
            value = getattr(self, name)
            if name == "attempt_s" and value is None:
                continue
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise SettingsError(f"Timeouts.{name} must be a positive number, not {value!r:.40}")

    def allowed_s(self, timeout_s: float | None) -> float:
        """Return how long a call may take, given what its caller said.

        Raises:
            InvalidRequest: that is no positive number.
        """
        if timeout_s is None:
            return self.request_s
        if not (isinstance(timeout_s, int | float) and math.isfinite(timeout_s) and timeout_s > 0):
            raise InvalidRequest(f"timeout_s must be a positive number, not {timeout_s!r:.40}")
        return timeout_s

    def attempt_end_s(self, now_s: float, end_s: float) -> float:
        """Return when a try that begins now must end, given when the whole call must.

        Both times and the result are seconds of the same monotonic clock.
        """
        return end_s if self.attempt_s is None else min(end_s, now_s + self.attempt_s)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is tried, where trying again is safe.

    Attributes:
        attempts: tries in all; 1 never repeats.
        first_delay_s: upper bound of the pause before the second try; it doubles with each try.
        max_delay_s: upper bound of any pause that the server did not ask for.

    Raises:
        SettingsError: a value is out of range.
    """

    attempts: int = 3
    first_delay_s: float = 0.1
    max_delay_s: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SettingsError(f"Retries.attempts must be at least 1, not {self.attempts!r:.40}")
        for name in ("first_delay_s", "max_delay_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"Retries.{name} must not be negative, not {value!r:.40}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a client opens and takes.

    Attributes:
        max_connections: open at once; further requests wait for one.
        max_reply_bytes: largest reply, also after its values were expanded to arrays.

    Raises:
        SettingsError: one of them is less than 1.
    """

    max_connections: int = MAX_CONNECTIONS
    max_reply_bytes: int = MAX_REPLY_BYTES

    def __post_init__(self) -> None:
        for name in ("max_connections", "max_reply_bytes"):
            number = getattr(self, name)
            if number < 1:
                raise SettingsError(f"Bounds.{name} must be at least 1, not {number!r:.40}")


DEFAULT_BOUNDS = Bounds()
DEFAULT_TIMEOUTS = Timeouts()
DEFAULT_RETRIES = Retries()
