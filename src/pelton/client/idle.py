"""Open connections that wait for the next request."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from pelton.client.connection import Connection
from pelton.client.failure import closed


class IdleConnections:
    """A stack of reusable connections: the one used last is used next. Threads may share it."""

    def __init__(self, idle_s: float) -> None:
        """Start empty.

        Args:
            idle_s: how long an unused connection is kept.
        """
        self._idle_s = idle_s
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stack: deque[Connection] = deque()

    def take(self) -> Connection | None:
        """Return a connection that can carry a request, or None where there is none.

        One that the server has closed, or that is so old that it may be about to, is closed
        instead of returned.

        Raises:
            NoReply: `close` has been called.
        """
        if self._pid != os.getpid():
            # After a fork both processes hold the same sockets, and only the parent may speak;
            # the child's copies are closed when they are forgotten, which the server cannot see.
            # Its lock may have been held by a thread that the child does not have.
            self._pid, self._lock, self._stack = os.getpid(), threading.Lock(), deque()
        while True:
            with self._lock:
                if self._closed:
                    raise closed()
                if not self._stack:
                    return None
                connection = self._stack.pop()
            if not self._is_old(connection) and connection.is_quiet():
                return connection
            connection.close()

    def put(self, connection: Connection) -> None:
        """Keep a connection after its request, or close it if it cannot be used again."""
        with self._lock:
            keep = connection.reusable and not self._closed
            if keep:
                self._stack.append(connection)
            # The oldest lies at the bottom, where nothing takes it while newer ones suffice.
            done_with = [] if keep else [connection]
            while self._stack and self._stack[0] is not connection and self._is_old(self._stack[0]):
                done_with.append(self._stack.popleft())
        for one in done_with:
            one.close()

    def close(self) -> None:
        """Close every connection, now and whenever one comes back."""
        with self._lock:
            self._closed = True
            stack, self._stack = self._stack, deque()
        for connection in stack:
            connection.close()

    def _is_old(self, connection: Connection) -> bool:
        return time.monotonic() - connection.last_used_s >= self._idle_s
