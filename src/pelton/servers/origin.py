"""Where a request came from, and when."""

from __future__ import annotations

from typing import NamedTuple


class Origin(NamedTuple):
    """What the gate knows of a request beside its bytes.

    The door gets it with every call, `door.answer(call, body, origin)`; routes of the
    control application find it as `request.state.origin`, for every request.

    Attributes:
        arrived_s: when the first byte of its head was read, on `time.monotonic`, since uvloop
            tells its time in whole milliseconds only. Of a request that was pipelined behind
            another, when it was read, not when its turn came.
        same_user: whether it came over the Unix socket from a process of the server's own user;
            such a caller may name shared memory.
    """

    arrived_s: float
    same_user: bool
