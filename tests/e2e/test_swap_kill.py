"""A server is killed at each step of a publish; the next one answers as before, or as after."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

import pytest

from e2e.kill_at_step import VARIABLE
from e2e.swapping import OK, ask_once, publish, versions_of
from e2e.versions import GOLDEN, onnx_bytes
from support_server import ServerProcess

TESTS = Path(__file__).parents[1]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """What is there before: a version that was published too."""
    folder = tmp_path / "before"
    model = folder / "models" / "digits"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(onnx_bytes(1))
    (model / "model.toml").write_text(GOLDEN)
    with started(folder) as server:
        assert publish(server.port, "digits", 2, "model.onnx", onnx_bytes(2)) == "in service"
    return folder


def started(folder: Path, step: int = 0) -> ServerProcess:
    """Start a server that kills itself at a step of its first publish; 0 for none."""
    env = {}
    if step:
        (folder / "sitecustomize.py").write_text(
            f"import sys; sys.path.append({str(TESTS)!r})\n"
            "from e2e.kill_at_step import install; install()\n"
        )
        env = {"PYTHONPATH": str(folder), VARIABLE: str(step)}
    flags = ("--state-dir", str(folder / "state"), "--allow-publish", "--isolation", "inline")
    return ServerProcess(folder / "models", *flags, env=env)


def killed(folder: Path, step: int) -> bool:
    """Publish version 3 to a server that is killed on the way; return whether it was."""
    server = started(folder, step)
    try:
        publish(server.port, "digits", 3, "model.onnx", onnx_bytes(3))
        return False
    except (OSError, HTTPException):
        return True
    finally:
        server.process.kill()
        server.wait()


def answers(folder: Path) -> int:
    """Start again; return the version that answers, once all of it was found to be well."""
    with started(folder) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        seen = ask_once(connection, "digits")
        connection.close()
        assert seen.status == OK, seen
        rows = versions_of(server.port, "digits")
        (active,) = [number for number, row in rows.items() if row["active"]]
        assert active == seen.version
        assert {number for number, row in rows.items() if row["state"] == "ready"} == {active}
        again = publish(server.port, "digits", 4, "model.onnx", onnx_bytes(4))
        assert again == "in service"
        there = {one.name for one in (folder / "models/digits").iterdir() if one.is_dir()}
        assert there == {"1", "2", "4"} | ({"3"} if seen.version == 3 else set())
    return seen.version


def test_a_kill_at_any_step_of_a_publish_leaves_old_or_new(before: Path, tmp_path: Path) -> None:
    def outcomes(steps: Iterator[int]) -> list[tuple[int, int]]:
        """Return the version that answers after each step, until none is left."""
        found = []
        for step in steps:
            folder = tmp_path / str(step)
            shutil.copytree(before, folder)
            was_killed = killed(folder, step)
            found.append((step, answers(folder)))
            if not was_killed:
                break
        return found

    steps = count(1)
    with ThreadPoolExecutor(4) as pool:
        every = sorted(one for part in pool.map(outcomes, [steps] * 4) for one in part)
    versions = [version for _, version in every]
    assert len(versions) > 16
    assert versions == sorted(versions), "from some step on it is the new one"
    assert (versions[0], versions[-1]) == (2, 3)
