"""What a connection is doing, as the gate sees it."""

from __future__ import annotations

import enum


class GateState(enum.Enum):
    """Where the bytes of a connection go; `http_gate` draws how one follows another."""

    HEAD = enum.auto()
    """A head is being gathered, or nothing is going on."""
    QUEUED = enum.auto()
    """There is no memory for the body now; the connection is not read."""
    BODY = enum.auto()
    """The body of an inference is being received into its block."""
    BUSY = enum.auto()
    """The door is answering."""
    SENDING = enum.auto()
    """The client has yet to take what was written; the next request, or the end, follows."""
    CONTROL = enum.auto()
    """uvicorn's protocol has the request."""
    LINGERING = enum.auto()
    """The request was refused; what still comes is thrown away until the client has read why."""
    CLOSED = enum.auto()
    """The end has begun; nothing that still comes is looked at."""
