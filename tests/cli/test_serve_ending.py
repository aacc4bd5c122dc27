"""How `pelton serve` ends: signals, running requests, exit codes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.serving import ask, numbers
from support_server import (
    ServerProcess,
    WaitingModel,
    until,
    write_identity,
    write_python_model,
)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[WaitingModel]:
    """A folder with two models: `slow`, which the test holds up, and `quick`."""
    write_identity(tmp_path / "models/quick/1/model.onnx")
    with WaitingModel(tmp_path / "models/slow/1") as model:
        yield model


@pytest.fixture
def models(waiting: WaitingModel) -> Path:
    return waiting.folder.parent.parent


@pytest.fixture
def in_thread() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        yield threads


ENDING = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])


@ENDING
def test_running_requests_finish_and_new_ones_are_refused(
    serve, waiting: WaitingModel, models: Path, in_thread, number: int
) -> None:
    server = serve(models)
    slow = in_thread.submit(ask, server, "/infer?model=slow", {"value": [1, "kept"]})
    run = waiting.next_run()
    assert ask(server, "/v2/health/ready").status == 200
    assert ask(server, "/v2/models/quick/infer", numbers(1)).status == 200

    server.signal(number)
    server.wait_for_log(f"{signal.Signals(number).name}: finishing what is running")
    until(lambda: ask(server, "/v2/models/quick/infer", numbers(1)).status != 200)
    ready = ask(server, "/v2/health/ready")
    assert (ready.status, ready.body) == (503, {"ready": False})
    assert ask(server, "/v2/models/quick/ready").status == 503
    assert ask(server, "/v2/health/live").status == 200
    health = ask(server, "/health")
    assert (health.status, health.body["status"]) == (503, "unavailable")
    for path, body in (("/v2/models/quick/infer", numbers(1)), ("/infer?model=quick", [1.0])):
        refusal = ask(server, path, body)
        assert (refusal.status, refusal.body["code"]) == (503, "unavailable")
        assert refusal.headers["Retry-After"] == "1"
    assert not slow.done()
    assert server.process.poll() is None

    waiting.release(run)
    answer = slow.result(20)
    assert (answer.status, answer.body) == (200, {"status": "ok", "output": [1, "kept"]})
    assert server.wait() == 0
    assert server.log().endswith(" INFO ended\n")
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/v2/health/live")


def test_whoever_keeps_a_connection_is_told_that_the_answer_is_the_last(
    serve, waiting: WaitingModel, models: Path, in_thread
) -> None:
    """What is asked next is asked elsewhere then, instead of running into a reset."""
    server = serve(models)
    slow = in_thread.submit(ask, server, "/infer?model=slow", {"value": [1, "kept"]})
    run = waiting.next_run()
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(kept):
        first = answer_on(kept)
        assert (first.status, first.headers["Connection"]) == (200, None)

        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGTERM: finishing what is running")
        until(lambda: ask(server, "/v2/models/quick/infer", numbers(1)).status != 200)
        last = answer_on(kept)
        assert (last.status, last.headers["Connection"]) == (503, "close")
    waiting.release(run)
    answer = slow.result(20)
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert server.wait() == 0


def answer_on(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    connection.request("POST", "/v2/models/quick/infer", json.dumps(numbers(1)))
    response = connection.getresponse()
    response.read()
    return response


@ENDING
def test_an_idle_server_ends_at_once_with_its_connections(serve, tmp_path, number: int) -> None:
    server = serve(write_identity(tmp_path / "echo.onnx"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while not received.endswith(b'{"live":true}'):
            received += connection.recv(9000)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        server.signal(number)
        assert connection.recv(1) == b""
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("second", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, 128 + 2)], ids=["TERM", "INT"]
)
def test_a_second_signal_ends_at_once(
    serve, waiting: WaitingModel, models: Path, in_thread, second: int, code: int
) -> None:
    server = serve(models, ends_well=False)
    slow = in_thread.submit(ask, server, "/infer?model=slow", {"value": 1})
    waiting.next_run()
    server.signal(signal.SIGTERM)
    until(lambda: ask(server, "/v2/health/ready").status == 503)
    server.signal(second)
    assert server.wait() == code
    assert server.log().endswith(" WARNING second signal: ending at once\n")
    assert isinstance(slow.exception(20), ConnectionError | http.client.HTTPException)


def test_a_model_that_hangs_cannot_keep_the_server_from_ending(
    serve, waiting: WaitingModel, models: Path, in_thread
) -> None:
    server = serve(models, "--shutdown-grace-s", "0.5s")
    slow = in_thread.submit(ask, server, "/infer?model=slow", {"value": 1})
    waiting.next_run()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "1 requests were still running after 0.5 s and are given up" in server.log()
    assert server.log().endswith(" INFO ended\n")
    assert isinstance(slow.exception(20), ConnectionError | http.client.HTTPException)


def test_a_delay_lets_a_load_balancer_notice_before_requests_are_refused(
    serve, tmp_path: Path
) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    server = serve(model, "--shutdown-delay-s", "1h", ends_well=False)
    server.signal(signal.SIGTERM)
    until(lambda: ask(server, "/v2/health/ready").status == 503)
    for _ in range(5):
        answer = ask(server, "/v2/models/echo/infer", numbers(1.5))
        assert answer.status == 200
        assert answer.body["outputs"][0]["data"] == [1.5]
    server.signal(signal.SIGTERM)
    assert server.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("isolation", ["process", "inline"])
def test_ctrl_c_while_a_model_is_loading(tmp_path: Path, isolation: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        source = f"""
            import socket

            def load_model(model_path, device):
                with socket.create_connection(("127.0.0.1", {listener.getsockname()[1]})) as test:
                    test.recv(1)

            def model_inference(obs):
                return 1
        """
        model = write_python_model(tmp_path / "m", source)
        server = ServerProcess(model, "--isolation", isolation, wait=False)
        loading, _ = listener.accept()
        with loading:
            server.signal(signal.SIGINT)
            assert server.wait() == 130
    assert "Traceback" not in server.log()


# -- worker processes ----------------------------------------------------------------------------


PID = """
import os

def load_model(model_path, device):
    print("worker", os.getpid(), flush=True)

def model_inference(obs):
    return os.getpid()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_the_workers_end_with_the_server(serve, tmp_path: Path) -> None:
    server = serve(write_python_model(tmp_path / "model", PID))
    worker = os.pidfd_open(ask(server, "/infer", {}).body["output"])
    try:
        assert server.stop() == 0
        assert select.select([worker], [], [], 20)[0] == [worker]
    finally:
        os.close(worker)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_an_idle_worker_that_dies_before_the_first_request_is_replaced(serve, tmp_path) -> None:
    server = serve(write_python_model(tmp_path / "model", PID))
    pid = int(re.search(r"worker (\d+)", server.wait_for_log("worker "))[1])
    os.kill(pid, signal.SIGKILL)
    server.wait_for_log("runs again")
    assert ask(server, "/v2/models/model/ready").status == 200
    assert ask(server, "/infer", {}).body["output"] != pid


def test_the_file_of_the_unix_socket_is_removed_at_the_end(serve, tmp_path: Path) -> None:
    path = tmp_path / "pelton.sock"
    server = serve(write_identity(tmp_path / "m.onnx"), "--uds", str(path))
    assert f" and at unix:{path} (API: " in server.log()
    assert path.is_socket()
    assert server.stop() == 0
    assert not path.exists()
