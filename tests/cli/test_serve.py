"""`pelton serve` as a person at the keyboard meets it: a process, its log, its exit code."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from support_server import (
    ServerProcess,
    WaitingModel,
    run_pelton,
    taken_port,
    until,
    write_identity,
    write_matmul,
    write_python_model,
)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: Any


def ask(
    server: ServerProcess, path: str, body: Any = None, method: str | None = None, **headers: str
) -> Answer:
    """Send one request over a new connection; a body is sent, and the answer read, as JSON."""
    host = server.url.removeprefix("http://").rpartition(":")[0].strip("[]")
    connection = http.client.HTTPConnection(host, server.port, timeout=20)
    with contextlib.closing(connection):
        raw = None if body is None else json.dumps(body)
        told = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method or ("GET" if body is None else "POST"), path, raw, told | headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, json.loads(response.read()))


def numbers(*values: float) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP32", "data": list(values)}]
    }


# -- what it says when it is ready ---------------------------------------------------------------


def test_the_log_names_models_inputs_outputs_and_address(serve, tmp_path: Path) -> None:
    write_matmul(tmp_path / "models/scorer/7/model.onnx", 64, 8)
    write_identity(tmp_path / "models/words/1/model.onnx", "BYTES", (-1, 2))
    server = serve(tmp_path / "models")
    log = server.wait_for_log("try it: ")
    assert re.search(
        r"model scorer version 7 \(onnx on cpu, loaded in \d+ ms\): "
        r"x FP32 \[-1, 64\] -> y FP32 \[-1, 8\]\n",
        log,
    )
    assert "): x BYTES [-1, 2] -> y BYTES [-1, 2]\n" in log
    assert f"serving scorer, words at http://127.0.0.1:{server.port} " in log
    assert f"(API: http://127.0.0.1:{server.port}/docs)" in log


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_line_that_the_log_offers_answers_when_pasted(serve, tmp_path: Path) -> None:
    server = serve(write_identity(tmp_path / "echo.onnx", "INT64", (-1, 3)))
    line = re.search(r"try it: (curl .*)\n", server.wait_for_log("try it: "))
    assert line is not None
    said = subprocess.run(
        ["sh", "-c", f"{line[1]} -w '\\n%{{http_code}}'"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    body, _, status = said.stdout.rpartition("\n")
    assert status == "200"
    assert json.loads(body) == {
        "model_name": "echo",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [1, 3], "data": [0, 0, 0]}],
    }


def test_json_log_lines_parse(serve, tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    server = serve(model, "--log-format", "json")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {frozenset(line) for line in lines} == {
        frozenset({"time", "level", "logger", "message"})
    }
    assert {line["level"] for line in lines} == {"info"}
    messages = [line["message"] for line in lines]
    assert messages[0].startswith("model echo version 1 ")
    assert messages[1].startswith(f"serving echo at http://127.0.0.1:{server.port} ")
    assert messages[-2:] == ["SIGTERM: finishing what is running", "ended"]


def test_no_more_is_logged_than_asked_for(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    arguments = ["serve", str(model), "--default-model", "eco", "--port", "0"]
    loud = run_pelton(*arguments).stderr.splitlines()
    quiet = run_pelton(*arguments, "--log-level", "warning").stderr.splitlines()
    assert quiet == ["pelton serve: default_model is 'eco', but served are: echo"]
    assert loud[-1:] == quiet
    assert "INFO model echo version 1 " in loud[0]


def test_an_onnx_model_is_served_without_heavy_frameworks(serve, tmp_path: Path) -> None:
    server = serve(write_identity(tmp_path / "echo.onnx"), env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert ask(server, "/v2/models/echo/infer", numbers(1.5)).status == 200
    assert ask(server, "/stats").status == 200
    imported = set(re.findall(r"(?m)^import time:.*\| +([\w.]+)$", server.log()))
    assert {"onnxruntime", "pelton.servers.http_gate"} <= imported
    tops = {name.partition(".")[0] for name in imported}
    heavy = {"torch", "scipy", "cv2", "pandas", "sklearn", "ray", "sqlalchemy", "grpc", "onnx"}
    assert tops & heavy == set()


# -- what it serves, and how it is told ----------------------------------------------------------


def test_one_file_answers_under_its_own_name(serve, tmp_path: Path) -> None:
    server = serve(write_matmul(tmp_path / "scorer.onnx", 2, 3))
    answer = ask(
        server,
        "/v2/models/scorer/infer",
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 10]}]},
    )
    assert answer.status == 200
    weights = (np.arange(6) * 7 % 11 - 5).reshape(2, 3)
    assert answer.body["outputs"][0]["data"] == [float(x) for x in np.array([1, 10]) @ weights]


def test_the_model_may_be_named_by_flag_variable_or_file(serve, tmp_path: Path) -> None:
    one, two = (write_identity(tmp_path / f"{name}.onnx") for name in ("one", "two"))
    config = tmp_path / "pelton.toml"
    config.write_text(f"model_path = {str(one)!r}\nmax_json_depth = 3\n")
    variable = {"PELTON_MODEL_PATH": str(one)}
    assert "serving one at" in serve(None, "--config", str(config)).log()
    assert "serving one at" in serve(None, env=variable).log()
    assert "serving two at" in serve(None, "--model-path", str(two), env=variable).log()
    server = serve(two, "--config", str(config), env=variable)
    assert "serving two at" in server.log()
    deep = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [[[[1]]]]}]}
    answer = ask(server, "/v2/models/two/infer", deep)
    assert (answer.status, answer.body["code"]) == (400, "malformed_request")
    assert "3 levels" in answer.body["error"]


def test_without_a_default_the_users_endpoint_asks_which_model(serve, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_identity(tmp_path / f"models/{name}/1/model.onnx")
    answer = ask(serve(tmp_path / "models"), "/infer", [1.5])
    assert answer.status == 400
    assert answer.body["message"].endswith("served are: one, two")
    by_default = serve(tmp_path / "models", "--default-model", "two")
    assert ask(by_default, "/infer", [1.5]).body == {"status": "ok", "output": [1.5]}
    assert ask(by_default, "/model/info").body["name"] == "two"
    assert ask(by_default, "/model/info?model=one").body["name"] == "one"


def test_a_folder_with_a_model_py_is_a_model(serve, tmp_path: Path) -> None:
    source = """
        def load_model(model_path, device):
            return 10

        def model_inference(obs):
            return [obs["value"] * 2]
    """
    server = serve(write_python_model(tmp_path / "policy", source))
    assert "model policy version 1 (python on cpu" in server.log()
    answer = ask(server, "/infer", {"value": 21})
    assert (answer.status, answer.body) == (200, {"status": "ok", "output": [42]})


def test_an_ipv6_address_is_written_in_brackets(serve, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = serve(write_identity(tmp_path / "echo.onnx"), "--host", "::1")
    assert server.url == f"http://[::1]:{server.port}"
    assert ask(server, "/health").body["status"] == "healthy"


# -- wrong use: one sentence, exit code 2 --------------------------------------------------------


def assert_refused(said: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert said.stdout == ""
    assert said.stderr == f"pelton serve: {sentence}\n"
    assert said.returncode == 2


def refused(*arguments: object, env: dict[str, str] | None = None) -> str:
    """Return the one sentence with which `pelton serve` refuses."""
    said = run_pelton("serve", *map(str, arguments), env=env)
    sentence = said.stderr.removeprefix("pelton serve: ").removesuffix("\n")
    assert_refused(said, sentence)
    assert "\n" not in sentence
    return sentence


def test_nothing_to_serve() -> None:
    assert refused().startswith("say what to serve: `pelton serve PATH`, where PATH is ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere.onnx") == f"{tmp_path}/nowhere.onnx does not exist"


def test_a_file_that_is_broken(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(write_matmul(tmp_path / "whole.onnx").read_bytes()[:300])
    assert "broken.onnx" in refused(broken)
    broken.write_bytes(b"not a model")
    assert "broken.onnx" in refused(broken)
    broken.write_bytes(b"")
    assert "broken.onnx" in refused(broken)


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(b"\x89HDF")
    assert ".onnx" in refused(file)


def test_a_folder_without_models(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith(f"there is no model in {tmp_path}; expected is ")
    (tmp_path / "README.md").write_text("# Not a model\n")
    assert refused(tmp_path).startswith(f"there is no model in {tmp_path}; expected is ")
    (tmp_path / "src/lib").mkdir(parents=True)
    assert refused(tmp_path).startswith("there is no model in the folder 'src'; expected is ")


def test_a_model_whose_own_code_fails(tmp_path: Path) -> None:
    folder = write_python_model(tmp_path / "policy", "raise ValueError('no weights')")
    assert "no weights" in refused(folder)
    folder = write_python_model(tmp_path / "policy", "import sys\nsys.exit(0)")
    assert "SystemExit" in refused(folder)
    folder = write_python_model(tmp_path / "policy", "def load_model(:\n")
    assert "model.py" in refused(folder)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    with taken_port() as port:
        assert refused(model, "--port", port) == (
            f"cannot listen on 127.0.0.1 port {port}: Address already in use; "
            "if another server runs there, choose another port with --port"
        )


def test_the_port_of_another_pelton(serve, tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    first = serve(model)
    assert "Address already in use" in refused(model, "--port", first.port)
    assert ask(first, "/health").status == 200


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    sentence = refused(model, "--host", "203.0.113.1", "--port", "0")
    assert sentence.startswith("cannot listen on 203.0.113.1 port 0: Cannot assign ")


def test_an_address_that_is_none(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    assert refused(model, "--host", "a..b") == "cannot listen on a..b: this is no address"


WRONG_SETTINGS = [
    (["a.onnx", "--model-path", "b.onnx"], {}, "give PATH or --model-path, not both"),
    (["a.onnx", "--port", "none"], {}, "--port is 'none'; it has to be a whole number"),
    (["a.onnx", "--device", "gpu"], {}, "--device is 'gpu'; it has to be cpu, auto, cuda"),
    (["a.onnx", "--max-body-bytes", "64MB"], {}, "--max-body-bytes is '64MB'; it has to be a size"),
    (["a.onnx"], {"PELTON_PORT": "-1"}, "PELTON_PORT is '-1'; it has to be a whole number"),
    (
        ["a.onnx"],
        {"PELTON_MAX_BODY": "1"},
        "unknown setting PELTON_MAX_BODY; did you mean PELTON_MAX_BODY_BYTES?",
    ),
    (["a.onnx", "--config", "no.toml"], {}, "cannot read the settings file no.toml: No such file"),
]


@pytest.mark.parametrize(("arguments", "env", "begins"), WRONG_SETTINGS)
def test_a_setting_that_is_wrong(arguments, env, begins: str) -> None:
    assert refused(*arguments, env=env).startswith(begins)


def test_an_unknown_key_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "pelton.toml"
    config.write_text("prot = 8080\n")
    assert refused("a.onnx", "--config", config).startswith(
        f"unknown setting 'prot' in {config}; did you mean port?"
    )


def test_an_unknown_flag_is_told_with_its_neighbours() -> None:
    said = run_pelton("serve", "a.onnx", "--prot", "8080")
    assert said.returncode == 2
    assert said.stdout == ""
    assert "No such option: --prot" in said.stderr
    assert "--port" in said.stderr
    assert "Traceback" not in said.stderr


# -- help ----------------------------------------------------------------------------------------


def test_the_commands_are_listed_with_what_they_do() -> None:
    for arguments in (["--help"], ["-h"]):
        said = run_pelton(*arguments)
        assert said.returncode == 0
        commands = dict(re.findall(r"(?m)^│ (\w+) +(\S.*\S) +│$", said.stdout))
        assert {"serve", "doctor", "settings"} <= set(commands)
        assert commands["serve"] == "Serve models over HTTP."
        assert commands["doctor"].startswith("Check the installation")


def test_the_version() -> None:
    said = run_pelton("--version")
    assert re.fullmatch(r"pelton \d+\.\d+\.\d+\n", said.stdout)
    assert said.returncode == 0


def test_the_core_installation_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')"
    )
    said = run_pelton("serve", "a.onnx", env={"PYTHONPATH": str(tmp_path)})
    assert said.returncode == 2
    assert said.stderr == (
        "pelton: the command line needs more than the client library; "
        "install it with: pip install 'pelton[server]'\n"
    )


# -- how it ends ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("code", [130])
def test_ctrl_c_while_a_model_is_loading(tmp_path: Path, code: int) -> None:
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
        server = ServerProcess(write_python_model(tmp_path / "m", source), wait=False)
        loading, _ = listener.accept()
        with loading:
            server.signal(signal.SIGINT)
            assert server.wait() == code
    assert "Traceback" not in server.log()
