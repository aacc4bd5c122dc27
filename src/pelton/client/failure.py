"""Why no reply came, and whether trying again is safe."""

from __future__ import annotations

import enum

from pelton.errors import ConnectionFailed, DeadlineExceeded, PeltonError


class Again(enum.Enum):
    """Whether a failed request may be sent once more (RFC 9110, section 9.2.2)."""

    SAFE = enum.auto()
    """The server never had the whole request, so it cannot have run anything."""

    IF_IDEMPOTENT = enum.auto()
    """The request was sent; whether it was run cannot be told."""

    POINTLESS = enum.auto()
    """The other side is not what we take it for; it would fail again."""


class NoReply(Exception):
    """One try has failed before a whole reply came; never leaves the client's room.

    Attributes:
        error: what the caller is told if there is no further try.
        again: whether there may be one.
    """

    def __init__(self, error: PeltonError, again: Again) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again


def all_busy(max_connections: int) -> NoReply:
    """Tell that no connection got free in time."""
    message = f"time ran out while all {max_connections} connections were busy"
    return NoReply(DeadlineExceeded(message), Again.SAFE)


def closed() -> NoReply:
    """Tell that the caller has closed the client."""
    return NoReply(ConnectionFailed("this client is closed"), Again.POINTLESS)
