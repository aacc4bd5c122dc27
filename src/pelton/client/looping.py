"""The client's transport for `asyncio`: pooled connections, waiting with the event loop.

The loop only says when a socket is ready (`add_reader`, `add_writer`); bytes move straight
between sockets and arrays. asyncio's own transports would copy what the kernel does not take at
once, and would lose a server's early answer together with the broken connection. uvloop and
every other loop that can watch descriptors will do.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TypeVar

from pelton.client.connection import Connection
from pelton.client.failure import all_busy
from pelton.client.http1 import Reply, Request
from pelton.client.idle import IdleConnections
from pelton.client.opening import Peer, known_addresses, open_connection, unreachable
from pelton.client.stream import YIELD, Steps, Wait

T = TypeVar("T")


async def drive(steps: Steps[T], deadline_s: float) -> T:
    """Run steps to their end, leaving the event loop to others while they wait.

    Args:
        steps: see `stream.Steps`.
        deadline_s: when `TimeoutError` is thrown into them, on `time.monotonic`.
    """
    try:
        wait = next(steps)
        while True:
            in_time = await _await_ready(wait, min(deadline_s, wait.until_s))
            wait = next(steps) if in_time else steps.throw(TimeoutError())
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        # What was begun ends now, not when somebody forgets a traceback: a socket is closed.
        steps.close()


async def _await_ready(wait: Wait, until_s: float) -> bool:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        return False
    if wait is YIELD:
        await asyncio.sleep(0)
        return True
    loop = asyncio.get_running_loop()
    in_time: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_later(left_s, _settle, in_time, False)
    if wait.readable:
        loop.add_reader(wait.fd, _settle, in_time, True)
    if wait.writable:
        loop.add_writer(wait.fd, _settle, in_time, True)
    try:
        return await in_time
    finally:
        timer.cancel()
        if wait.readable:
            loop.remove_reader(wait.fd)
        if wait.writable:
            loop.remove_writer(wait.fd)


def _settle(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)


class AsyncTransport:
    """Carries requests to one server over keep-alive connections; tasks of one loop share it."""

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
        self._free = asyncio.Semaphore(max_connections)

    async def perform(self, request: Request, deadline_s: float) -> Reply:
        """Send a request once and return its reply, whatever its status.

        A cancelled request closes its connection.

        Args:
            request: what to send.
            deadline_s: when to give up, on `time.monotonic`.

        Raises:
            NoReply: no whole reply came.
        """
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                await self._free.acquire()
        except TimeoutError:
            raise all_busy(self._max_connections) from None
        try:
            connection = self._idle.take() or await self._open(deadline_s)
            try:
                steps = connection.exchange(request, self._max_reply_bytes)
                return await drive(steps, deadline_s)
            finally:
                self._idle.put(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._idle.close()

    async def _open(self, deadline_s: float) -> Connection:
        address = self._peer.address
        loop = asyncio.get_running_loop()
        try:
            resolved = known_addresses(address) or await loop.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM
            )
        except OSError as cause:
            raise unreachable(address, cause) from cause
        return await drive(open_connection(self._peer, resolved), deadline_s)
