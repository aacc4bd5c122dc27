"""Gate, control application and sockets as in a real server, over an engine that a test writes down.

with WholeServer(keys=[READER.key]) as server:
    reply = server.ask("GET", "/v2/models", READER.text)
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, Mock

from starlette.routing import Mount

from pelton.access.scopes import find_route, need_of
from pelton.buffers import BufferPool
from pelton.errors import AccessDenied
from pelton.records import Key
from pelton.servers import (
    audit_routes,
    key_routes,
    publish_routes,
    repository_routes,
    session_routes,
    traffic_routes,
)
from pelton.servers.access import AccessOptions, make_access
from pelton.servers.certificates import Certificates
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Hooks, make_host
from pelton.servers.inference import InferenceDoor
from pelton.servers.key_control import KeyControl, Keys
from pelton.servers.listening import bind_tcp, bind_unix
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.wire.limits import Limits
from servers.fake_engine import FakeEngine

WAIT_S = 20.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class KeyShelf:
    """Keeps keys in memory, and what was said of their changes."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.kept = {key.id: key for key in keys}
        self.changes: list[Any] = []

    def add(self, key: Key, change: Any) -> None:
        self.kept[key.id] = key
        self.changes.append(change)

    def revoke(self, id: str, at_s: float, change: Any) -> Key:  # noqa: A002
        from pelton.access.keys import revoked
        from pelton.errors import Conflict, NotFound

        if id not in self.kept:
            raise NotFound(f"there is no key with the id {id!r}")
        if self.kept[id].revoked_s is not None:
            raise Conflict(f"the key {id!r} is revoked already")
        self.changes.append(change)
        self.kept[id] = revoked(self.kept[id], at_s)
        return self.kept[id]

    def list(self) -> list[Key]:
        return list(self.kept.values())


class WholeServer:
    """A server on a free port of this machine, in a thread.

    Attributes:
        port: where it listens.
        gateway: what its connections share.
        app: the control application.
        shelf: its keys.
    """

    def __init__(
        self,
        keys: Iterable[Key] = (),
        options: AccessOptions | None = None,
        *,
        engine: FakeEngine | None = None,
        certificates: Certificates | None = None,
        limits: ConnectionLimits | None = None,
        unix: Path | None = None,
        body_bytes: tuple[int, int | None] = (64 * 1024 * 1024, None),
        further: Iterable[Any] = (),
    ) -> None:
        self.shelf = KeyShelf(keys)
        self._listeners = [bind_tcp("127.0.0.1", 0)]
        self.port = self._listeners[0].getsockname()[1]
        if unix is not None:
            self._listeners.append(bind_unix(str(unix)))
        tls = certificates is not None
        self.access = make_access(options or AccessOptions(), self.shelf.list(), "127.0.0.1", tls)
        engine = engine or FakeEngine()
        regions = SharedRegions(for_all=False)
        door = InferenceDoor(engine, Limits(), None, regions)
        most, upload = body_bytes
        self.gateway = Gateway(
            door,
            limits or ConnectionLimits(),
            most,
            BufferPool(0),
            MemoryBudget(4 * most),
            self.access,
            upload,
        )
        engine.ready = True
        engine.model_ready = lambda name, version=None: bool(engine.metadata(name))
        status = ServerStatus(engine, "9.9", lambda _model: {"uptime_seconds": 1})
        self.app = control_app(
            status,
            UnusualInference(door, Limits()),
            regions,
            [
                session_routes.router(self.access.gate),
                key_routes.router(KeyControl(Keys(self.shelf), self.refresh)),
                traffic_routes.router(_mock()),
                audit_routes.router(None),
                repository_routes.router(_mock(), Limits()),
                publish_routes.router(_mock(), status),
                *further,
            ],
        )
        times = ShutdownTimes(shutdown_delay_s=0, shutdown_grace_s=1)
        drained = SimpleNamespace(ready=True, drain=AsyncMock(return_value=0))
        self._ready = threading.Event()
        hooks = Hooks(self._on_ready)
        self._host = make_host(self.app, self.gateway, drained, times, hooks, certificates)
        self._tls = tls
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WholeServer:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_raised: object) -> None:
        self._host.should_exit = True
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def refresh(self) -> None:
        """Put the kept keys in force, as whoever follows the state does."""
        self.access.renew(self.shelf.list())

    def on_loop(self, call: Any) -> None:
        """Have something done on the server's event loop."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (call(), done.set()))
        assert done.wait(WAIT_S)

    def connect(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """Open a connection."""
        if tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=WAIT_S, context=tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def ask(
        self,
        method: str,
        path: str,
        key: str | None = None,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Ask on a connection of its own."""
        connection = self.connect()
        try:
            return ask(connection, method, path, key, body, **headers)
        finally:
            connection.close()

    def _on_ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def _run(self) -> None:
        for listener in self._listeners:
            listener.listen()
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._host.run(sockets=self._listeners)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    key: str | None = None,
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    """Ask on a connection; underscores in names of headers stand for dashes."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        told["Authorization"] = f"Bearer {key}"
    connection.request(method, path, body, told)
    response = connection.getresponse()
    return Answer(
        response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    )


def served_routes(app: Any) -> list[tuple[str, str]]:
    """List (method, template) of everything that an application answers."""
    return list(_routes(app.routes))


def unknown_routes(app: Any) -> list[tuple[str, str]]:
    """List what an application answers and the table of routes does not know."""
    unknown = []
    for method, route in served_routes(app):
        found = find_route(example(route))
        try:
            need_of(method, route)
        except AccessDenied:
            unknown.append((method, route))
        else:
            if found is None or found.route != route:
                unknown.append((method, route))
    return unknown


def _routes(listed: list[Any]) -> Iterator[tuple[str, str]]:
    for route in listed:
        if hasattr(route, "effective_candidates"):
            yield from _routes(route.effective_candidates())
            continue
        found = getattr(route, "starlette_route", None) or route
        if isinstance(found, Mount):
            yield "GET", f"{found.path}/{{file}}"
        else:
            yield from ((method, found.path) for method in found.methods)


def example(route: str) -> str:
    """Return an address of a route."""
    return re.sub(r"\{\w+\}", "some-name_1.0", route)


def _mock() -> Mock:
    """Stand for a control whose every answer is an error, so that nothing is changed."""
    return Mock(**{"check_may_publish.side_effect": _refuse})


def _refuse(*_arguments: object) -> None:
    from pelton.errors import Conflict

    raise Conflict("not in this test")
