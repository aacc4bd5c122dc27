"""One kept connection of the load generator, with at most one request under way."""

from __future__ import annotations

import selectors
import socket
import time

from framing import Framing, Reply

ROOM_BYTES = 64 * 1024
LOST = 0
"""The status of a request whose connection was closed, or that was not answered in time."""


class Connection:
    """Sends without blocking and tells when an answer is whole.

    Attributes:
        due_ns: when the request under way was due.
        body: of the newest answer.
        ended: whether that was the last one: the server closes the connection behind it.
        idle_since_ns: when it was opened, or its newest answer was whole.
    """

    def __init__(
        self, address: tuple[str, int], framing: Framing, selector: selectors.BaseSelector
    ) -> None:
        """Connect.

        Args:
            address: host and port.
            framing: where answers end.
            selector: told when there is something to read, or room to write.
        """
        self._address = address
        self._framing = framing
        self._selector = selector
        self._received = bytearray(ROOM_BYTES)
        self._filled = 0
        self._reply: Reply | None = None
        self._rest = memoryview(b"")
        self.due_ns = 0
        self.body = b""
        self.ended = False
        self.idle_since_ns = 0
        self._connect()

    def send(self, request: memoryview, due_ns: int) -> None:
        """Begin a request that was due at `due_ns`."""
        self.due_ns = due_ns
        self._rest = request
        self._push()
        if self._rest:
            self._listen(selectors.EVENT_READ | selectors.EVENT_WRITE)

    def advance(self, ready: int) -> int | None:
        """Go on after the selector has called.

        Args:
            ready: which events came.

        Returns:
            The answer's status once it is whole, `LOST` when the server hung up, else None.
        """
        if ready & selectors.EVENT_WRITE and self._rest:
            self._push()
            if not self._rest:
                self._listen(selectors.EVENT_READ)
        if not ready & selectors.EVENT_READ:
            return None
        return self._pull()

    def reopen(self) -> None:
        """Start over on a new connection."""
        self._selector.unregister(self._socket)
        self._socket.close()
        self._connect()

    def _connect(self) -> None:
        self._filled, self._reply, self._rest = 0, None, memoryview(b"")
        self.ended = False
        self._socket = socket.create_connection(self._address, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framing.open(self._socket)
        self._socket.setblocking(False)
        self.idle_since_ns = time.monotonic_ns()
        self._selector.register(self._socket, selectors.EVENT_READ, self)

    def _listen(self, events: int) -> None:
        self._selector.modify(self._socket, events, self)

    def _push(self) -> None:
        try:
            sent = self._socket.send(self._rest)
        except BlockingIOError:
            return
        except OSError:
            # The server hung up; its answer, or the end, is found when reading.
            self._rest = memoryview(b"")
            return
        self._rest = self._rest[sent:]

    def _pull(self) -> int | None:
        try:
            count = self._socket.recv_into(memoryview(self._received)[self._filled :])
        except BlockingIOError:
            return None
        except OSError:
            return LOST
        if count == 0:
            return LOST
        self._filled += count
        if self._reply is None:
            self._reply = self._framing.find(self._received, self._filled)
        reply = self._reply
        if reply is None or self._filled < reply.end:
            return None
        self.body = bytes(memoryview(self._received)[reply.start : reply.end])
        self._filled, self._reply, self.ended = 0, None, reply.last
        self.idle_since_ns = time.monotonic_ns()
        return reply.status
