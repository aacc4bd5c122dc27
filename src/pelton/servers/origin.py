"""Where a request came from, when, and who sent it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pelton.access.caller import ANONYMOUS, Caller

UNKNOWN_PEER = "unknown"
"""Stands for the address of a peer that had gone before it could be asked for."""


@dataclass(slots=True)
class Origin:
    """What the gate knows of a request beside its bytes.

    The door gets it with every call, `door.answer(call, body, origin)`; routes of the
    control application find it as `request.state.origin`, for every request.

    Attributes:
        arrived_s: when the first byte of its head was read, on `time.monotonic`, since uvloop
            tells its time in whole milliseconds only. Of a request that was pipelined behind
            another, when it was read, not when its turn came.
        same_user: whether it came over the Unix socket from a process of the server's own user;
            such a caller may name shared memory.
        peer: the address at the other end; empty for the Unix socket.
        caller: who sent it, and what for that may be done.
        route: template of the route that it was admitted to, such as `/infer`; empty where it
            was admitted to none.
    """

    arrived_s: float
    same_user: bool
    peer: str = ""
    caller: Caller = ANONYMOUS
    route: str = ""


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address at the other end; empty for a Unix socket."""
    named = transport.get_extra_info("peername")
    if isinstance(named, tuple):
        return str(named[0])
    return "" if isinstance(named, str | bytes) else UNKNOWN_PEER
