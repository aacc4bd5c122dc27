"""All open connections: how many there may be, and how long each may take for what it does."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger("pelton.http")

SWEEP_S = 0.25
"""How often deadlines are looked at; they are that coarse, and cost nothing per request."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may cost.

    Attributes:
        max_head_bytes: size of a request's head.
        max_headers: headers in it.
        max_chunks: chunks of a chunked body.
        head_timeout_s: from the first byte of a head to its last.
        body_timeout_s: from the end of the head to the end of the body.
        send_timeout_s: for a client to take the answer.
        idle_timeout_s: between requests.
        max_connections: open at once; the longest idle one makes room for a new one.
    """

    max_head_bytes: int = 64 * 1024
    max_headers: int = 100
    max_chunks: int = 65_536
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    idle_timeout_s: float = 60.0
    max_connections: int = 4096


class Connection(Protocol):
    """What the register needs of a connection.

    Attributes:
        deadline_s: loop time at which it has to have moved on; infinity for never.
    """

    deadline_s: float

    def expire(self) -> None:
        """Its deadline has passed."""

    def close_idle(self) -> None:
        """Make room: it is idle and must close at once."""


class Connections:
    """Knows every open connection, the idle ones in the order in which they became idle."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._told_full = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Take in a new connection; it counts as idle until its first byte.

        Returns:
            Whether there is room: False when the cap is reached and none is idle.
        """
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        if len(self._open) >= self.limits.max_connections and not self._evict():
            return False
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection that was closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """The connection has begun to send a request."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """The connection has its answer and may be closed when room is needed."""
        self._idle[connection] = None

    def _evict(self) -> bool:
        if not self._told_full:
            self._told_full = True
            logger.warning(
                "%d connections are open, which is max_connections; idle ones are closed "
                "to make room",
                len(self._open),
            )
        oldest = next(iter(self._idle), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.close_idle()
        return True

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for connection in [c for c in self._open if c.deadline_s <= now_s]:
                connection.deadline_s = math.inf
                try:
                    connection.expire()
                # Border: one connection that cannot be ended must not end every deadline.
                except Exception:
                    logger.exception("a connection could not be ended at its deadline")
            if len(self._open) < self.limits.max_connections // 2:
                self._told_full = False
