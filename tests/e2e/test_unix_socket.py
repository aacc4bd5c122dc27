"""The same gate on a Unix socket: same answers, for its owner only, and no file left behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from oip_messages import json_body, json_request, read_reply, tensor
from raw_http import Wire, chunked, get, plain
from support_server import ServerProcess, run_pelton, until, write_identity

INFER = "/v2/models/echo/infer"


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path: the kernel keeps about a hundred bytes of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "s"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_identity(tmp_path / "echo.onnx")


def request(count: int) -> bytes:
    return json_request(INFER, json_body(tensor("x", "FP32", [count], [1.5] * count)))


def test_both_ways_answer_the_same(model: Path, path: Path, serve) -> None:
    server = serve(model, "--uds", str(path))
    body = json_body(tensor("x", "FP32", [2], [1, 2]))
    with Wire(path) as local, Wire(server.port) as remote:
        for each in (
            get("/v2/health/ready"),
            get("/v2/models/echo"),
            request(3),
            request(50_000),
            chunked(INFER, body, {"Content-Type": "application/json"}, 10),
            plain(INFER, b"{", {"X-Request-Id": "mine"}),
            get("/nowhere", {"X-Request-Id": "mine"}),
        ):
            one, other = local.ask(each), remote.ask(each)
            assert one.status == other.status
            assert one.body == other.body
        local.send(request(1) * 20)
        piped = [read_reply(local.reply())["y"]["data"] for _ in range(20)]
        assert piped == [[1.5]] * 20


def test_only_the_same_user_on_this_machine_is_offered_shared_memory(
    model: Path, path: Path, serve
) -> None:
    server = serve(model, "--uds", str(path))
    with Wire(path) as local, Wire(server.port) as remote:
        assert "system_shared_memory" in local.ask(get("/v2")).json()["extensions"]
        assert "system_shared_memory" not in remote.ask(get("/v2")).json()["extensions"]


def test_the_log_names_it_and_only_its_owner_may_connect(model: Path, path: Path, serve) -> None:
    server = serve(model, "--uds", str(path))
    assert f"unix:{path}" in server.log()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_goes_with_the_server(model: Path, path: Path, serve) -> None:
    server = serve(model, "--uds", str(path))
    with Wire(path) as wire:
        assert wire.ask(request(1)).status == 200
        server.stop()
        assert wire.rest() == b""
    assert not path.exists()


def test_a_file_left_by_a_killed_server_is_replaced(model: Path, path: Path, serve) -> None:
    with ServerProcess(model, "--uds", str(path)) as killed:
        killed.signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    assert path.exists()
    serve(model, "--uds", str(path))
    with Wire(path) as wire:
        assert wire.ask(request(1)).status == 200


def refused(model: Path, path: Path) -> subprocess.CompletedProcess[str]:
    ended = run_pelton("serve", str(model), "--port", "0", "--uds", str(path))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended


def test_a_second_server_leaves_the_first_alone(model: Path, path: Path, serve) -> None:
    serve(model, "--uds", str(path))
    assert "another server listens there" in refused(model, path).stderr
    with Wire(path) as wire:
        assert wire.ask(request(1)).status == 200


def test_a_file_that_is_no_socket_is_left_alone(model: Path, path: Path) -> None:
    path.write_text("mine")
    assert "something else has this name" in refused(model, path).stderr
    assert path.read_text() == "mine"


def test_a_server_that_cannot_load_its_model_leaves_no_file_in_use(
    tmp_path: Path, path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model")
    refused(broken, path)
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such"):
        client.connect(os.fspath(path))


def test_clients_that_hang_up_are_forgotten(model: Path, path: Path, serve) -> None:
    server = serve(model, "--uds", str(path))
    with Wire(path) as wire:
        assert wire.ask(request(1)).status == 200
    before = server.open_files()

    def hang_up() -> None:
        for _ in range(25):
            with Wire(path) as each:
                each.send(request(20_000)[:10_000])

    threads = [threading.Thread(target=hang_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: server.open_files() <= before)
    with Wire(path) as wire:
        assert wire.ask(request(1)).status == 200
