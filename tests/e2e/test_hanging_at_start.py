"""A version that hangs while the server starts is given up, and everything else is served."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from e2e.versions import COLUMNS, WORKER_TOML, onnx_bytes, python_bytes
from pelton.client import Client
from support_server import ServerProcess, run_pelton, until

LIMIT_S = 5
"""Long enough for those that do not hang, also on a machine that has much to do."""

INLINE_TOML = WORKER_TOML.replace('"process"', '"inline"')

HANGING = {
    "asleep": ("model.py", python_bytes(1, "hang", "load"), WORKER_TOML),
    "asleep_inline": ("model.py", python_bytes(1, "hang", "load"), INLINE_TOML),
    "cold": ("model.py", python_bytes(1, "hang", "run"), WORKER_TOML),
    "endless": ("model.onnx", onnx_bytes(1, "hang"), ""),
    "endless_apart": ("model.onnx", onnx_bytes(1, "hang"), 'isolation = "process"'),
}
GOOD = {
    "apart": ("model.py", python_bytes(7), WORKER_TOML),
    "inline": ("model.py", python_bytes(7), INLINE_TOML),
    "net": ("model.onnx", onnx_bytes(7), ""),
}


def write(root: Path, name: str, version: int = 1) -> Path:
    file, content, toml = {**HANGING, **GOOD}[name]
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)
    (folder / "model.toml").write_text(toml)
    return folder


def flag(limit_s: float) -> str:
    return f"--start-timeout-s={limit_s:g}"


def sentence(name: str, version: int = 1, limit_s: float = LIMIT_S) -> str:
    return (
        f"version {version} of model {name!r} was not ready within {limit_s:g} s and is given up; "
        "if it is slow and does not hang, raise start_timeout_s"
    )


def processes(server: ServerProcess) -> int:
    return len(psutil.Process(server.process.pid).children(recursive=True))


def answer(client: Client, name: str, version: str | None = None) -> float:
    x = np.zeros((1, COLUMNS), np.float32)
    return float(client.infer(name, {"x": x}, version=version).outputs["y"][0, 0])


def test_everything_else_is_served(serve, tmp_path: Path) -> None:
    for name in (*HANGING, *GOOD):
        write(tmp_path, name)
    server = serve(tmp_path, flag(LIMIT_S), "--instances=1")
    with Client(server.url) as client:
        assert [answer(client, name) for name in GOOD] == [7.0] * len(GOOD)
        rows = {row.name: (row.state, row.reason) for row in client.repository_index()}
        told = {name: client.versions(name)[0] for name in HANGING}
    for name in HANGING:
        assert rows[name] == ("UNAVAILABLE", sentence(name))
        assert (told[name].state, told[name].reason) == ("failed", sentence(name))
        assert f" ERROR model {name} is not served: {sentence(name)}\n" in server.log()
    table = run_pelton("models", "--url", server.url).stdout
    assert table.count("failed") == len(HANGING)
    until(lambda: processes(server) == 1)  # the worker of the model that is served


def test_where_memory_is_bounded_too(serve, tmp_path: Path) -> None:
    for name in ("asleep", *GOOD):
        write(tmp_path, name)
    server = serve(tmp_path, flag(LIMIT_S), "--max-models-bytes=1GiB")
    with Client(server.url) as client:
        assert [answer(client, name) for name in GOOD] == [7.0] * len(GOOD)
        assert client.versions("asleep")[0].reason == sentence("asleep")


def test_one_version_that_hangs_leaves_the_others(serve, tmp_path: Path) -> None:
    for version, content in ((1, python_bytes(1)), (2, python_bytes(2, "hang", "load"))):
        folder = write(tmp_path, "asleep", version)
        (folder / "model.py").write_bytes(content)
    (tmp_path / "asleep/model.toml").write_text('policy = "all"')
    server = serve(tmp_path, flag(LIMIT_S))
    with Client(server.url) as client:
        assert answer(client, "asleep", "1") == 1.0
        told = [(row.state, row.reason) for row in client.versions("asleep")]
    assert told == [("ready", ""), ("failed", sentence("asleep", 2))]


@pytest.mark.parametrize("name", ["asleep", "asleep_inline", "endless"])
def test_a_server_whose_only_model_hangs_ends(tmp_path: Path, name: str) -> None:
    server = ServerProcess(write(tmp_path, name).parent, flag(1), wait=False)
    assert server.wait() == 2
    assert server.log().splitlines()[-1] == f"pelton serve: {sentence(name, limit_s=1)}"
    assert "Traceback" not in server.log()


def test_ctrl_c_during_an_endless_first_run_ends_at_once(tmp_path: Path) -> None:
    server = ServerProcess(write(tmp_path, "endless").parent, wait=False)
    server.wait_for_log("loaded in")
    server.signal(signal.SIGINT)
    assert server.wait() == 130
    assert "Traceback" not in server.log()
