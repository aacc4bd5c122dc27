"""Every program in examples/clients, run as it stands against the example models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_server import ServerProcess, clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENTS = EXAMPLES / "clients"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(EXAMPLES / "models") as running:
        yield running


def said_by(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        env=clean_environment(),
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_client_for_threads_reads_the_digit(server):
    lines = said_by(sys.executable, CLIENTS / "python_client.py", server.url).splitlines()
    assert "digits takes image UINT8" in lines
    assert "policy takes instruction BYTES, state FP32, image UINT8" in lines
    assert lines[2].startswith("digit 7: 9")
    assert len(lines) == 5


def test_the_client_for_asyncio_gets_all_answers(server):
    said = said_by(sys.executable, CLIENTS / "async_client.py", server.url)
    assert said.startswith("200 answers in ")


def test_the_robot_turns_towards_the_cube(server):
    lines = said_by(sys.executable, CLIENTS / "robot.py", server.url).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"step {number}" for number in range(5)]
    assert all(": 16 actions in " in line for line in lines)
    assert len({line.split("first ")[1] for line in lines}) == 5


def test_on_the_same_machine_nothing_is_copied(serve, tmp_path):
    socket = tmp_path / "p.sock"
    serve(EXAMPLES / "models", "--uds", str(socket))
    lines = said_by(sys.executable, CLIENTS / "same_machine.py", f"unix:{socket}").splitlines()
    assert len(lines) == 3
    assert all(line.startswith("20000 digits in ") for line in lines)


def test_tritons_client_reads_the_digit(server):
    pytest.importorskip("tritonclient.http")
    address = server.url.removeprefix("http://")
    lines = said_by(sys.executable, CLIENTS / "triton_client.py", address).splitlines()
    assert lines[0].startswith("digit 1: ")
    assert len(lines) == 3


def test_curl_reads_the_digit(server):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = said_by("bash", CLIENTS / "curl.sh", server.url).splitlines()
    assert [line[0] for line in lines] == ["#", "{"] * 4
    health, metadata, classes, plain = (json.loads(line) for line in lines[1::2])
    assert health["ready"] is True
    assert metadata["name"] == "digits"
    assert classes["outputs"][0]["data"][0].endswith(":7:7")
    assert len(plain["output"][0]) == 10


@pytest.mark.parametrize("name", ["python_client.py", "async_client.py", "robot.py"])
def test_without_a_server_there_is_one_sentence(name):
    done = subprocess.run(
        [sys.executable, CLIENTS / name, "http://127.0.0.1:1"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot connect to http://127.0.0.1:1: connection refused")
    assert done.stderr.count("\n") == 1


def test_every_example_is_listed_and_run():
    names = {file.name for file in CLIENTS.iterdir() if file.suffix in (".py", ".sh")}
    readme = (CLIENTS / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in readme for name in names)
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{name}"' in here for name in names)
