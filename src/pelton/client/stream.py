"""Sockets that do not make anybody wait long: each step moves bytes or says what to wait for.

Connecting, the TLS handshake and a whole exchange are written once, as generators that yield a
`Wait` where the socket is not ready. Whoever drives one does the waiting: with `poll` in a
thread (`blocking.py`) or with an event loop (`looping.py`). When time is up the driver throws
`TimeoutError` into the generator, which knows what was going on and says so.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Wait(NamedTuple):
    """What must happen before the next step.

    Attributes:
        fd: descriptor to wait on.
        readable: go on when it can be read.
        writable: go on when it can be written.
        until_s: throw `TimeoutError` at this time of `time.monotonic`, if not before.
    """

    fd: int
    readable: bool
    writable: bool
    until_s: float = math.inf


YIELD = Wait(-1, readable=False, writable=False)
"""Nothing to wait for, but the driver may look at the clock and let others go first."""

TURN_BYTES = 1024 * 1024
"""Moved without waiting before others get their turn: some 0.3 ms of copying."""

_MOMENT_US = 50_000
"""How long a `PatientStream` blocks, microseconds; a deadline may be passed by twice as much."""

Steps = Generator[Wait, None, T]


class Stream(Protocol):
    """A connected socket, plain or TLS, whose methods block for a moment at most.

    `OSError` means that the connection is lost.

    Attributes:
        turn_bytes: after so many bytes the driver gets its turn, even if there was no waiting.
    """

    turn_bytes: int

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def send(self, pieces: Sequence[bytes | memoryview]) -> int | Wait:
        """Send some of the pieces, in order; return the bytes taken, or what to wait for."""
        ...

    def receive(self, buffer: memoryview) -> int | Wait:
        """Receive into `buffer`; return the bytes received, 0 for the end, or what to wait for."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class PlainStream:
    """TCP without TLS, over a non-blocking socket."""

    turn_bytes = TURN_BYTES

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._to_read = Wait(sock.fileno(), readable=True, writable=False)
        self._to_write = Wait(sock.fileno(), readable=False, writable=True)

    def fileno(self) -> int:
        """See `Stream`."""
        return self._sock.fileno()

    def send(self, pieces: Sequence[bytes | memoryview]) -> int | Wait:
        """See `Stream`; the kernel copies straight from the pieces."""
        try:
            return self._sock.sendmsg(pieces)
        except BlockingIOError:
            return self._to_write

    def receive(self, buffer: memoryview) -> int | Wait:
        """See `Stream`."""
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return self._to_read

    def close(self) -> None:
        """See `Stream`."""
        self._sock.close()


class PatientStream(PlainStream):
    """TCP for a thread: a call blocks in the kernel for a moment before it says what to wait for.

    The kernel takes a big body in many small helpings. A thread that waits for each with `poll`
    is woken each time; one that is blocked in `sendmsg` is woken when all is taken. The moment is
    bounded, so that a server that answers early, or a deadline, is still noticed; and since any
    call may have taken that long, the driver looks at the clock after each that leaves more to do.
    """

    turn_bytes = 0

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)
        moment = struct.pack("ll", 0, _MOMENT_US)  # a `struct timeval`
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, moment)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)
