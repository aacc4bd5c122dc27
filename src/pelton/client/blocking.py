"""The client's transport for threads: pooled connections, waiting with `poll`."""

from __future__ import annotations

import math
import queue
import select
import socket
import time
from typing import TypeVar

from pelton.client.connection import Connection
from pelton.client.failure import all_busy
from pelton.client.http1 import Reply, Request
from pelton.client.idle import IdleConnections
from pelton.client.opening import Peer, known_addresses, open_connection, unreachable
from pelton.client.stream import YIELD, PatientStream, Steps, Wait

T = TypeVar("T")

_MOST_PLACES = 2**16
"""More connections than this no process opens to one server: it has no more ports."""


def drive(steps: Steps[T], deadline_s: float) -> T:
    """Run steps to their end, waiting in this thread.

    Args:
        steps: see `stream.Steps`.
        deadline_s: when `TimeoutError` is thrown into them, on `time.monotonic`.
    """
    try:
        wait = next(steps)
        while True:
            in_time = _await_ready(wait, min(deadline_s, wait.until_s))
            wait = next(steps) if in_time else steps.throw(TimeoutError())
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        # What was begun ends now, not when somebody forgets a traceback: a socket is closed.
        steps.close()


def _await_ready(wait: Wait, until_s: float) -> bool:
    left_s = until_s - time.monotonic()
    if wait is YIELD or left_s <= 0:
        return left_s > 0
    events = (select.POLLIN if wait.readable else 0) | (select.POLLOUT if wait.writable else 0)
    poller = select.poll()
    poller.register(wait.fd, events)
    return bool(poller.poll(math.ceil(left_s * 1000)))


class Transport:
    """Carries requests to one server over keep-alive connections; threads may share it."""

    def __init__(
        self, peer: Peer, *, idle_s: float, max_connections: int, max_reply_bytes: int
    ) -> None:
        """Open nothing yet.

        Args:
            peer: the server.
            idle_s: how long an unused connection is kept.
            max_connections: open at once; further requests wait for one.
            max_reply_bytes: largest body of a reply.
        """
        self._peer = peer
        self._max_connections = max_connections
        self._max_reply_bytes = max_reply_bytes
        self._idle = IdleConnections(idle_s)
        # A queue of places is a semaphore without Python code.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(min(max_connections, _MOST_PLACES)):
            self._places.put(None)

    def perform(self, request: Request, deadline_s: float) -> Reply:
        """Send a request once and return its reply, whatever its status.

        Args:
            request: what to send.
            deadline_s: when to give up, on `time.monotonic`.

        Raises:
            NoReply: no whole reply came.
        """
        self._take_place(deadline_s)
        try:
            connection = self._idle.take() or self._open(deadline_s)
            try:
                return drive(connection.exchange(request, self._max_reply_bytes), deadline_s)
            finally:
                self._idle.put(connection)
        finally:
            self._places.put(None)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._idle.close()

    def _take_place(self, deadline_s: float) -> None:
        try:
            self._places.get_nowait()
        except queue.Empty:
            try:
                self._places.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise all_busy(self._max_connections) from None

    def _open(self, deadline_s: float) -> Connection:
        address = self._peer.address
        try:
            resolved = known_addresses(address) or socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM
            )
        except OSError as cause:
            raise unreachable(address, cause) from cause
        return drive(open_connection(self._peer, resolved, PatientStream), deadline_s)
