"""A connection of TLS until its handshake is over; the gate has it from then on.

asyncio would shake hands by itself and tell nobody of it before the end. Whoever opens connections
and says nothing would then have as many as they like. Here one is in the register from the moment
it is accepted: it counts, and it is the first to make room for others while it says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

from pelton.engine import eager
from pelton.servers.gateway import Gateway
from pelton.servers.http_gate import HttpGate


class Handshake(asyncio.Protocol):
    """One connection on which no request can have come yet.

    Attributes:
        deadline_s: never; the handshake has a limit of its own.
    """

    def __init__(
        self,
        gateway: Gateway,
        server_state: ServerState,
        context: ssl.SSLContext,
        make_gate: Callable[[], HttpGate],
    ) -> None:
        """Wait for a connection.

        Args:
            gateway: what the connections share.
            server_state: uvicorn's; what is registered there is shut down at the end.
            context: by which hands are shaken.
            make_gate: makes what the connection talks to afterwards.
        """
        self.deadline_s = math.inf
        self._gateway = gateway
        self._register: set[Any] = cast("set[Any]", server_state.connections)
        self._context = context
        self._make_gate = make_gate
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in a new connection, unless there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._gateway.connections.admit(self):
            self._transport.abort()  # there is no way yet to say why
            return
        self._register.add(self)
        self._task = eager.start(self._shake())

    # -- what the register of connections, and uvicorn, call ---------------------------------------

    def expire(self) -> None:
        """It has no deadline of the register's."""

    def close_idle(self) -> None:
        """Make room for another connection."""
        self._transport.abort()

    def shutdown(self) -> None:
        """The server is ending, and nothing has been asked here."""
        self._transport.abort()

    async def _shake(self) -> None:
        limits = self._gateway.limits
        secure: asyncio.Transport | None = None
        # Whatever goes wrong here, a stranger may bring about at will; the connection is closed.
        with contextlib.suppress(OSError):
            secure = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.head_timeout_s,
                # It counts from the last answer on, which a slow client may still be taking.
                ssl_shutdown_timeout=limits.send_timeout_s,
            )
        self._gateway.connections.leave(self)
        self._register.discard(self)
        # One that ends in the midst of it comes back as if all were well.
        if secure is not None and not secure.is_closing():
            gate = self._make_gate()
            # What came right behind the handshake is read after this step, by the loop's promise.
            secure.set_protocol(gate)
            gate.connection_made(secure)
