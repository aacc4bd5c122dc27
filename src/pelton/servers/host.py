"""uvicorn's server with our way of ending: tell, drain, close, exit 0."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import uvicorn
from uvicorn.server import ServerState

from pelton.servers.admitted_only import AdmittedOnly
from pelton.servers.certificates import Certificates
from pelton.servers.control_protocol import ControlProtocol, Owner
from pelton.servers.gateway import Gateway
from pelton.servers.handshakes import Handshake
from pelton.servers.http_gate import HttpGate
from pelton.servers.listening import BACKLOG, UnixListener, is_same_user
from pelton.servers.shutdown import ShutdownTimes
from pelton.time_slices import LOOP_NS, promptly, short_turns

logger = logging.getLogger("pelton.server")


class Drainable(Protocol):
    """What the server needs of the engine when it ends."""

    ready: bool

    async def drain(self, grace_s: float) -> int:
        """Refuse new requests, wait for the running ones, say how many are left."""
        ...


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """What else is done at the ends of the server's life, on the event loop.

    Attributes:
        ready: once requests are answered.
        opening: before the first request.
        closing: after the last request.
    """

    ready: Callable[[], None]
    opening: Callable[[], Awaitable[None]] = _nothing
    closing: Callable[[], Awaitable[None]] = _nothing


LAST_REQUESTS_S = 0.1
"""For requests that are on their way on connections that stay open: they get their answer, a
refusal that says that it is the last, where a connection that is closed meanwhile would be reset.
"""

LAST_WRITES_S = 2
"""For the answers of what was drained to reach their clients."""


class Host(uvicorn.Server):
    """Runs the gate on uvicorn: uvicorn owns the loop, the listening sockets and the signals."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        engine: Drainable,
        times: ShutdownTimes,
        hooks: Hooks,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._engine = engine
        self._times = times
        self._hooks = hooks
        self._certificates = certificates
        self._watching: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to end; afterwards threads take turns as before."""
        with promptly(LOOP_NS), short_turns:
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the doors, and say so."""
        await self._hooks.opening()
        await super().startup([])
        # uvicorn would serve all of them alike, but nobody on TCP is a process of the same user,
        # and nobody on the Unix socket needs TLS.
        self.servers += [await self._open(each) for each in sockets or []]
        if self._certificates is not None:
            self._watching = asyncio.get_running_loop().create_task(self._certificates.watch())
        self._hooks.ready()

    async def _open(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        gate = functools.partial(make_gate, self._gateway, self.config, self.server_state)
        if isinstance(listener, UnixListener):
            local = functools.partial(gate, is_same_user)
            return await loop.create_unix_server(local, sock=listener, backlog=BACKLOG)
        strangers = functools.partial(gate, lambda _transport: False)
        if self._certificates is None:
            return await loop.create_server(strangers, sock=listener, backlog=BACKLOG)
        context = self._certificates.context
        hands = functools.partial(Handshake, self._gateway, self.server_state, context, strangers)
        return await loop.create_server(hands, sock=listener, backlog=BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in an orderly way at the first signal, at once at the second."""
        again, self.should_exit = self.should_exit, True
        self._engine.ready = False
        if again:
            logger.warning("second signal: ending at once")
            logging.shutdown()
            os._exit(128 + sig)
        logger.info("%s: finishing what is running", signal.Signals(sig).name)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while the port still answers, so that health checks see what happens."""
        await asyncio.sleep(self._times.shutdown_delay_s)
        self._gateway.closing = True
        left = await self._engine.drain(self._times.shutdown_grace_s)
        if left:
            logger.warning(
                "%d requests were still running after %g s and are given up",
                left,
                self._times.shutdown_grace_s,
            )
        await self._take_no_more(sockets or [])
        await super().shutdown(sockets)
        await self._hooks.closing()
        await self._gateway.access.close()

    async def _take_no_more(self, listeners: Sequence[socket.socket]) -> None:
        for each in listeners:
            if isinstance(each, UnixListener):
                each.remove()
        if self._watching is not None:
            self._watching.cancel()
        for server in self.servers:
            server.close()
        if self.server_state.connections:
            await asyncio.sleep(LAST_REQUESTS_S)


def make_gate(
    gateway: Gateway,
    config: uvicorn.Config,
    state: ServerState,
    is_same_user: Callable[[asyncio.BaseTransport], bool],
) -> HttpGate:
    """Make what a new connection talks to.

    Args:
        gateway: what the connections share.
        config: uvicorn's, for the control side.
        state: likewise.
        is_same_user: tells whether the client is a process of the server's own user.
    """

    def control(owner: Owner) -> ControlProtocol:
        return ControlProtocol(owner, gateway.limits, config, state)

    return HttpGate(gateway, state, control, is_same_user, asyncio.get_running_loop())


def make_host(
    app: Any,
    gateway: Gateway,
    engine: Drainable,
    times: ShutdownTimes,
    hooks: Hooks,
    certificates: Certificates | None = None,
) -> Host:
    """Put gate and control application together on a uvicorn server.

    Args:
        app: the control application.
        gateway: what the connections share.
        engine: what has to be drained at the end.
        times: how the server ends.
        hooks: what else is done when the server begins and ends.
        certificates: by which TCP is served with TLS; None for plain TCP.
    """
    config = uvicorn.Config(
        AdmittedOnly(app, gateway.access.shared_limit, gateway.refused),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=LAST_WRITES_S,
    )
    return Host(config, gateway, engine, times, hooks, certificates)
