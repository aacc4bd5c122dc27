"""A server in this process whose models are kept by a fake, for tests of the doors that publish.

with PublishingSite() as site:
    site.control.refusals["digits"] = LoadFailed("...")
    http.client.HTTPConnection("127.0.0.1", site.port)
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from pelton.buffers import BufferPool
from pelton.errors import AccessDenied, Code, Conflict, InvalidRequest, NotFound, PeltonError
from pelton.servers import publish_routes, repository_routes
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Hooks, Host, make_host
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.model_control import IndexRow, PublishedRow, UploadRequest, VersionRow
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.wire.limits import Limits
from servers.fake_engine import FakeEngine, door_to
from servers.unguarded import unguarded

MAX_UPLOAD_BYTES = 8 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
GATES = ("check", "load", "warm", "golden", "swap")


class Taken(NamedTuple):
    """An upload that came whole."""

    model: str
    upload: UploadRequest
    data: bytes
    actor: str


class FakeControl:
    """Keeps what is published in memory, and does what a test writes down.

    Attributes:
        taken: uploads that came whole.
        broken: errors with which others ended.
        biggest_chunk: bytes of the largest that came.
        refusals: by model, what its publication ends with after the gate `load`.
        before_reading: by model, likewise, before any byte is asked for.
        slow: while set to an event that is not set, gates after `check` wait for it.
        calls: what else was asked.
        allowed: whether models may be changed by request.
    """

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.broken: list[PeltonError] = []
        self.ended = threading.Condition()
        self.biggest_chunk = 0
        self.received_bytes = 0
        self.refusals: dict[str, PeltonError] = {}
        self.before_reading: dict[str, PeltonError] = {}
        self.slow = threading.Event()
        self.slow.set()
        self.calls: list[tuple[Any, ...]] = []
        self.allowed = True

    def index(self, ready_only: bool) -> list[IndexRow]:
        self.calls.append(("index", ready_only))
        rows = [
            IndexRow("digits", "1", "UNAVAILABLE", "unloaded"),
            IndexRow("digits", "2", "READY", ""),
            IndexRow("torn", "", "", ""),
        ]
        return [row for row in rows if row.state == "READY" or not ready_only]

    async def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], actor: str
    ) -> None:
        self._change("load", name, config, dict(files), actor)

    async def unload(self, name: str, actor: str) -> None:
        self._change("unload", name, actor)

    def _change(self, *call: Any) -> None:
        if not self.allowed:
            raise AccessDenied("models are not loaded by request; start with --explicit-models")
        if call[1] == "nowhere":
            raise NotFound("no model nowhere")
        self.calls.append(call)

    def check_may_publish(self, name: str, version: int | None) -> None:
        if not self.allowed:
            raise AccessDenied("nothing can be published; start the server with --allow-publish")
        if name.startswith("."):
            raise InvalidRequest(f"{name!r} is no name for a model")
        if version == 1:
            raise Conflict(f"{name} has a version 1 already")

    async def publish(
        self,
        name: str,
        upload: UploadRequest,
        chunks: AsyncIterator[bytes],
        actor: str,
        progress: Callable[[str], None],
    ) -> PublishedRow:
        try:
            return await self._publish(name, upload, chunks, actor, progress)
        except PeltonError as error:
            self.broken.append(error)
            raise
        finally:
            with self.ended:
                self.ended.notify_all()

    async def _publish(
        self,
        name: str,
        upload: UploadRequest,
        chunks: AsyncIterator[bytes],
        actor: str,
        progress: Callable[[str], None],
    ) -> PublishedRow:
        if name in self.before_reading:
            raise self.before_reading[name]
        progress("receive")
        data = bytearray()
        async for chunk in chunks:
            self.biggest_chunk = max(self.biggest_chunk, len(chunk))
            data += chunk
            self.received_bytes = len(data)
            if len(data) > MAX_UPLOAD_BYTES:
                raise InvalidRequest("refused at the gate 'receive': too large", Code.TOO_LARGE)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if upload.digest not in ("", digest):
            raise InvalidRequest("refused at the gate 'receive': the digest is another one")
        for gate in GATES:
            progress(gate)
            if gate != "check":
                await asyncio.to_thread(self.slow.wait, 20)
            if gate == "load" and name in self.refusals:
                raise self.refusals[name]
        self.taken.append(Taken(name, upload, bytes(data), actor))
        return PublishedRow(name, upload.version or 7, "sha256:" + "ab" * 32, {"golden": 0.5})

    async def rollback(self, name: str, actor: str) -> int:
        if name == "new":
            raise Conflict("new has no version to go back to")
        self.calls.append(("rollback", name, actor))
        return 2

    async def versions(self, name: str) -> list[VersionRow]:
        if name == "nowhere":
            raise NotFound("no model nowhere")
        return [
            VersionRow(1, "refused", "refused at the gate 'load': no", "sha256:" + "1" * 64, 1e9),
            VersionRow(2, "ready", "", "sha256:" + "2" * 64, 1.7e9, kept=True),
            VersionRow(3, "ready", active=True, on_probation=True, labels=("stable",)),
        ]

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until something holds at the end of a publication."""
        with self.ended:
            assert self.ended.wait_for(condition, timeout_s)


class PublishingSite:
    """The server.

    Attributes:
        control: the fake.
        gateway: what its connections share.
        app: the control application.
        port: on 127.0.0.1.
        url: the same as a URL.
    """

    def __init__(self, body_timeout_s: float = 60.0) -> None:
        self.control = FakeControl()
        engine: Any = _Engine()
        door: Any = door_to(engine)
        self.gateway = Gateway(
            door,
            ConnectionLimits(body_timeout_s=body_timeout_s),
            MAX_BODY_BYTES,
            BufferPool(MAX_BODY_BYTES),
            MemoryBudget(16 * MAX_BODY_BYTES),
            unguarded(),
            max_upload_bytes=MAX_UPLOAD_BYTES,
        )
        status = ServerStatus(engine, "9.9", lambda _model: {}, "scale")
        self.app = control_app(
            status, UnusualInference(door, Limits()), SharedRegions(for_all=False)
        )
        self.app.include_router(repository_routes.router(self.control, Limits()))
        self.app.include_router(publish_routes.router(self.control, status))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ready = threading.Event()
        self._host: Host
        self._thread = threading.Thread(target=self._run, args=(engine,))

    def _run(self, engine: Any) -> None:
        async def serve() -> None:
            times = ShutdownTimes(shutdown_delay_s=0.0, shutdown_grace_s=1.0)
            self._host = make_host(self.app, self.gateway, engine, times, Hooks(self._ready.set))
            await self._host.serve([self._listener])

        asyncio.run(serve())

    def __enter__(self) -> PublishingSite:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_raised: object) -> None:
        self.control.slow.set()
        self._host.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send one request; return status and JSON of the answer."""
        reply, raw = self.ask_raw(method, path, body, headers)
        return reply.status, json.loads(raw) if raw else None

    def ask_raw(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request; return the answer and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            return reply, reply.read()
        finally:
            connection.close()


class _Engine(FakeEngine):
    ready = True

    async def drain(self, _grace_s: float) -> int:
        return 0


def events_in(raw: bytes) -> list[dict[str, Any]]:
    """Read server-sent events."""
    assert raw.endswith(b"\n\n")
    lines = [line for line in raw.decode().split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.fixture(scope="module")
def running_site() -> Iterator[PublishingSite]:
    """One server for a file of tests."""
    with PublishingSite() as site:
        yield site


@pytest.fixture
def site(running_site: PublishingSite) -> PublishingSite:
    """The same, with models as at the beginning."""
    running_site.control.__init__()  # type: ignore[misc]
    return running_site
