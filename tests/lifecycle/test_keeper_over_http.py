"""The doors that publish, over HTTP, with the real keeper behind them: as a person would do it."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools  # noqa: F401 -- what the client needs, before threads import it
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from lifecycle.keepers import Kept, scale_bytes, started, tar_of, write_scale
from pelton.buffers import BufferPool
from pelton.client import Client
from pelton.errors import Conflict, InvalidRequest, LoadFailed
from pelton.servers import publish_routes, repository_routes
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Hooks, make_host
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.wire.limits import Limits
from servers.unguarded import unguarded

MAX_BODY_BYTES = 256 * 1024
MAX_UPLOAD_BYTES = 1024 * 1024


async def serve(kept: Kept, port: socket.socket, ended: asyncio.Event) -> None:
    """Serve the doors until the test has ended."""
    door: Any = None
    pool, budget = BufferPool(MAX_BODY_BYTES), MemoryBudget(8 * MAX_BODY_BYTES)
    gateway = Gateway(
        door,
        ConnectionLimits(),
        MAX_BODY_BYTES,
        pool,
        budget,
        unguarded(),
        max_upload_bytes=MAX_UPLOAD_BYTES,
    )
    status = ServerStatus(kept.engine, "9.9", lambda _model: {})
    routers = [
        repository_routes.router(kept.keeper, Limits()),
        publish_routes.router(kept.keeper, status),
    ]
    app = control_app(status, UnusualInference(door, Limits()), SharedRegions(False), routers)
    host = make_host(app, gateway, kept.engine, ShutdownTimes(0.0, 1.0), Hooks(lambda: None))

    async def end() -> None:
        await ended.wait()
        host.should_exit = True

    await asyncio.gather(host.serve([port]), end())


@pytest.fixture
async def kept(tmp_path: Path):
    write_scale(tmp_path / "models/digits/1", 1.0)
    one = await started(tmp_path / "models")
    yield one
    await one.end()


@pytest.fixture
async def url(kept: Kept):
    port, ended = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
    address = f"127.0.0.1:{port.getsockname()[1]}"
    serving = asyncio.create_task(serve(kept, port, ended))
    yield f"http://{address}"
    ended.set()
    await serving


async def asked(url: str, what: Callable[[Client], Any]) -> Any:
    def ask() -> Any:
        with Client(url) as client:
            return what(client)

    return await asyncio.to_thread(ask)


async def test_a_version_is_pushed_refused_listed_and_taken_back(
    kept: Kept, url: str, tmp_path: Path
) -> None:
    good = write_scale(tmp_path / "good", 2.0)
    told: list[str] = []
    published = await asked(
        url, lambda client: client.push(good, "digits", on_progress=lambda p: told.append(p.gate))
    )
    assert (published.model, published.version) == ("digits", 2)
    gates = ["receive", "check", "load", "warm", "golden", "swap"]
    assert list(dict.fromkeys(told)) == gates
    assert await kept.ask("digits") == (2.0, "2")

    (tmp_path / "torn.onnx").write_bytes(b"no model at all")
    with pytest.raises(LoadFailed, match="refused at the gate 'load'"):
        await asked(url, lambda client: client.push(tmp_path / "torn.onnx", "digits"))
    with pytest.raises(Conflict, match="has a version 1 already"):
        await asked(url, lambda client: client.push(good, "digits", 1))
    (tmp_path / "no.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InvalidRequest, match="refused at the gate 'check'"):
        await asked(url, lambda client: client.push(tmp_path / "no.tar", "digits"))
    assert await kept.ask("digits") == (2.0, "2")

    rows = {row.version: row for row in await asked(url, lambda client: client.versions("digits"))}
    assert rows[2].active
    assert rows[2].digest == published.digest
    assert rows[1].kept
    assert rows[3].state == "refused"
    assert "refused at the gate 'load'" in rows[3].reason
    assert await asked(url, lambda client: client.rollback("digits")) == 1
    assert await kept.ask("digits") == (1.0, "1")


async def test_the_users_form_replaces_the_only_model(kept: Kept, url: str) -> None:
    tar = tar_of(model__onnx=scale_bytes(3.0))

    def update() -> tuple[int, bytes]:
        import http.client

        form = io.BytesIO()
        for line in (
            b'--q\r\nContent-Disposition: form-data; name="file"; filename="a.tar"\r\n\r\n',
            tar,
            b'\r\n--q\r\nContent-Disposition: form-data; name="device"\r\n\r\ncpu\r\n--q--\r\n',
        ):
            form.write(line)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        kind = {"Content-Type": "multipart/form-data; boundary=q"}
        connection.request("POST", "/update_model", form.getvalue(), kind)
        reply = connection.getresponse()
        told = reply.status, reply.read()
        connection.close()
        return told

    status, said = await asyncio.to_thread(update)
    assert (status, said) == (200, b'{"message":"Policy updated successfully"}')
    assert await kept.ask("digits") == (3.0, "2")


async def test_tritonclient_unloads_and_loads(kept: Kept, url: str) -> None:
    def work() -> None:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        (row,) = client.get_model_repository_index()
        assert (row["name"], row["version"], row["state"]) == ("digits", "1", "READY")
        client.unload_model("digits")
        (row,) = client.get_model_repository_index()
        assert row["state"] == "UNAVAILABLE"
        client.load_model("digits")
        (row,) = client.get_model_repository_index()
        assert row["state"] == "READY"
        with pytest.raises(InferenceServerException):
            client.load_model("nowhere")
        client.close()

    await asyncio.to_thread(work)
    assert await kept.ask("digits") == (1.0, "1")
