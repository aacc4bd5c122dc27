"""`pelton serve` as a person at the keyboard meets it: what it logs, serves and explains."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cli.serving import ask, numbers
from support_server import run_pelton, write_identity, write_matmul, write_python_model

# -- what it says when it is ready ---------------------------------------------------------------


def test_the_log_names_models_inputs_outputs_and_address(serve, tmp_path: Path) -> None:
    write_matmul(tmp_path / "models/scorer/7/model.onnx", 64, 8)
    write_identity(tmp_path / "models/words/1/model.onnx", "BYTES", (-1, 2))
    server = serve(tmp_path / "models")
    log = server.wait_for_log("try it: ")
    assert re.search(
        r"model scorer version 7 \(onnx on cpu, inline, instances \d+, threads 1, no batches; "
        r"loaded in \d+ ms\): "
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
