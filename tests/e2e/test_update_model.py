"""`POST /update_model` as the users' clients send it, and `pelton push` and `rollback` beside it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.asking import Asking
from e2e.scaled import who_answers, write_scaled, write_versions
from pelton.client import AsyncClient, Client, send_inference_request
from pelton.client.options import Retries
from pelton.errors import Conflict, LoadFailed
from support_server import ServerProcess, run_pelton, write_python_model

POLICY = """
from pathlib import Path

STATE = {}

def load_model(model_path, device):
    STATE["factor"] = float((Path(model_path) / "weights" / "factor.txt").read_text())
    STATE["device"] = str(device)
    return STATE

def model_inference(obs):
    return {"action": obs["state"] * STATE["factor"], "device": STATE["device"]}
"""


def write_policy(folder: Path, factor: float) -> Path:
    write_python_model(folder, POLICY)
    (folder / "weights").mkdir()
    (folder / "weights" / "factor.txt").write_text(str(factor))
    return folder


@pytest.fixture
def server(serve, tmp_path: Path) -> ServerProcess:
    write_policy(tmp_path / "models" / "policy" / "1", 1)
    return serve(tmp_path / "models", "--allow-publish", "--state-dir", str(tmp_path / "state"))


def act(server: ServerProcess) -> tuple[float, str]:
    said = send_inference_request({"state": np.ones(2, np.float32)}, f"{server.url}/infer")
    assert said["action"].shape == (2,)
    return float(said["action"][0]), said["device"]


def gnu_tar(folder: Path, tar: Path) -> None:
    subprocess.run(["tar", "-cf", tar, "-C", folder.parent, folder.name], check=True)


def gnu_tar_of_what_is_in_it(folder: Path, tar: Path) -> None:
    subprocess.run(["tar", "-cf", tar, "-C", folder, "."], check=True)


def python_tar(folder: Path, tar: Path) -> None:
    with tarfile.open(tar, "w") as archive:
        archive.add(folder, arcname=folder.name)


def ustar(folder: Path, tar: Path) -> None:
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, arcname=str(path.relative_to(folder)), recursive=False)


def by_curl(server: ServerProcess, tar: Path, device: str, *how: str) -> tuple[int, Any]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    fields = ["-F", f"file=@{tar}", *(["-F", f"device={device}"] if device else [])]
    url = f"{server.url}/update_model"
    command = ["curl", "-s", "-w", "\n%{http_code}", *how, *fields, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def by_requests(server: ServerProcess, tar: Path, device: str) -> tuple[int, Any]:
    """Send the bytes that `requests.post(url, files={"file": file}, data={"device": ...})` sends."""
    boundary = "0f3a2c5b7d9e8f1a2b3c4d5e6f708192"
    body = io.BytesIO()
    if device:
        body.write(f"--{boundary}\r\n".encode())
        body.write(f'Content-Disposition: form-data; name="device"\r\n\r\n{device}\r\n'.encode())
    body.write(f"--{boundary}\r\n".encode())
    named = f'Content-Disposition: form-data; name="file"; filename="{tar.name}"\r\n\r\n'
    body.write(named.encode() + tar.read_bytes() + f"\r\n--{boundary}--\r\n".encode())
    kind = f"multipart/form-data; boundary={boundary}"
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/update_model", body.getvalue(), {"Content-Type": kind})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def by_curl_in_chunks(server: ServerProcess, tar: Path, device: str) -> tuple[int, Any]:
    """Send as clients do that do not know how long a form will be."""
    return by_curl(server, tar, device, "-H", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("packed", "send"),
    [
        (gnu_tar, by_curl),
        (gnu_tar_of_what_is_in_it, by_requests),
        (python_tar, by_requests),
        (ustar, by_curl),
        (python_tar, by_curl_in_chunks),
    ],
)
def test_a_policy_is_replaced(
    server: ServerProcess,
    tmp_path: Path,
    packed: Callable[[Path, Path], None],
    send: Callable[[ServerProcess, Path, str], tuple[int, Any]],
) -> None:
    tar = tmp_path / "policy.tar"
    packed(write_policy(tmp_path / "trained", 2.5), tar)
    assert act(server) == (1.0, "cpu")
    assert send(server, tar, "cpu") == (200, {"message": "Policy updated successfully"})
    assert act(server) == (2.5, "cpu")
    with Client(server.url) as client:
        assert [row.version for row in client.versions("policy") if row.active] == [2]


def test_a_policy_that_does_not_work_changes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    tar, folder = tmp_path / "policy.tar", write_policy(tmp_path / "trained", 2)
    (folder / "weights" / "factor.txt").write_text("no number")
    gnu_tar(folder, tar)
    status, said = by_curl(server, tar, "")
    assert status == 400
    assert said["status"] == "error"
    assert said["message"] == said["error"]
    assert said["code"] == "load_failed"
    assert "refused at the gate 'load'" in said["message"]
    assert "could not convert string to float" in said["message"]
    assert str(tmp_path) not in json.dumps(said)
    tar.write_bytes(b"no tar at all" * 100)
    status, said = by_curl(server, tar, "")
    assert (status, said["code"]) == (415, "unsupported_media")
    assert "refused at the gate 'check'" in said["message"]
    status, said = by_curl(server, tar, "gpu please")
    assert (status, said["code"]) == (400, "invalid_input")
    assert "it has to be cpu, auto, cuda or cuda:N" in said["message"]
    assert act(server) == (1.0, "cpu")


def test_new_versions_by_the_client_while_others_ask(serve, tmp_path: Path) -> None:
    write_versions(tmp_path / "models" / "net", 1)
    state = ("--allow-publish", "--state-dir", str(tmp_path / "state"))
    # Nobody goes back to a version that is still on probation when the next one comes.
    server = serve(tmp_path / "models", *state, "--probation-requests", "1000000000")
    gates: list[str] = []
    with Asking(server, "net") as asking, Client(server.url) as client:
        file = write_scaled(tmp_path / "net.onnx", 2)
        told = client.push(file, "net", on_progress=lambda seen: gates.append(seen.gate))
        assert (told.model, told.version) == ("net", 2)
        assert list(dict.fromkeys(gates)) == ["receive", "check", "load", "warm", "golden", "swap"]
        asking.until_answered_by(2)
        folder = write_scaled(tmp_path / "7" / "net.onnx", 7).parent
        assert client.push(folder, "net", 7).version == 7
        asking.until_answered_by(7)
        assert client.rollback("net") == 1
        asking.until_answered_by(1)
        with pytest.raises(Conflict):
            client.rollback("net")
        (tmp_path / "broken.onnx").write_bytes(b"no model")
        with pytest.raises(LoadFailed, match="refused at the gate 'load'"):
            client.push(tmp_path / "broken.onnx", "net")
        with pytest.raises(Conflict, match="7"):
            client.push(folder, "net", 7)
        assert who_answers(client, "net") == 1
    assert asking.failures == []
    assert set(asking.versions) == {1, 2, 7}


def test_an_upload_that_is_refused_early_costs_no_other_request(serve, tmp_path: Path) -> None:
    write_versions(tmp_path / "models" / "net", 1)
    file = write_scaled(tmp_path / "1.onnx", 1, padding_bytes=1_000_000)
    state = ("--allow-publish", "--state-dir", str(tmp_path / "state"))
    server = serve(tmp_path / "models", *state)
    with Client(server.url, retries=Retries(attempts=1)) as client:  # one connection for all
        for _ in range(40):
            with pytest.raises(Conflict, match="version 1 already"):
                client.push(file, "net", 1)
            assert who_answers(client, "net") == 1


async def test_the_same_by_the_async_client_and_after_a_restart(serve, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    flags = (tmp_path / "models", "--allow-publish", "--state-dir", str(tmp_path / "state"))
    server = serve(*flags)
    async with AsyncClient(server.url) as client:
        for version in (1, 2):
            file = write_scaled(tmp_path / f"{version}.onnx", version)
            assert (await client.push(file, "net")).version == version
        assert await client.rollback("net") == 1
        assert [row.version for row in await client.versions("net") if row.active] == [1]
    server.stop()
    again = serve(*flags)
    with Client(again.url) as client:
        assert who_answers(client, "net") == 1, "what was taken back does not come by itself"
        rows = {row.version: row for row in client.versions("net")}
        assert rows[1].active
        assert rows[1].digest.startswith("sha256:")
        assert not rows[2].active
        assert "rollback" in rows[2].reason
    told = run_pelton("models", "--url", again.url).stdout.splitlines()
    assert told[1].split()[:4] == ["net", "1", "ready", "active"]
    assert told[-1].startswith("net 2: ")


def test_pelton_push_and_rollback_as_they_are_typed(serve, tmp_path: Path) -> None:
    write_versions(tmp_path / "models" / "net", 1)
    state = ("--allow-publish", "--state-dir", str(tmp_path / "state"))
    server = serve(tmp_path / "models", *state)
    folder = write_versions(tmp_path / "net", 2) / "2"
    done = run_pelton("push", str(folder), "--url", server.url)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "net: version 2 answers now")
    passed = [line.split()[:2] for line in done.stderr.splitlines() if "passed" in line]
    gates = ("receive", "check", "load", "warm", "golden", "swap")
    assert passed == [[gate, "passed"] for gate in gates]
    done = run_pelton("rollback", "net", "--url", server.url)
    assert (done.returncode, done.stdout) == (0, "net: version 1 answers now\n")
    done = run_pelton("rollback", "net", "--url", server.url)
    assert done.returncode == 1
    assert done.stderr.startswith("pelton rollback: ")
    off = serve(tmp_path / "models")
    done = run_pelton("push", str(folder), "--url", off.url)
    assert done.returncode == 1
    assert "start it with --allow-publish" in done.stderr
