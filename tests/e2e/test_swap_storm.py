"""Versions are published to a busy server, many of them bad, and nobody who asks notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from e2e.swapping import OK, asking, publish, versions_of
from e2e.versions import GOLDEN, LATE_RUNS, WORKER_TOML, onnx_bytes, python_bytes
from pelton.lifecycle.facts import LEAST_LATENCIES
from support_server import ServerProcess, until

IN_SERVICE = "in service"
CLIENTS = 4

FILES = {"onnx": "model.onnx", "worker": "model.py"}

ONNX = [
    ("", IN_SERVICE),
    ("cut", "load"),
    ("nan", "golden"),
    ("", IN_SERVICE),
    ("hang", "warm"),
    ("shape", "golden"),
    ("", IN_SERVICE),
    ("hang asked", "golden"),
    ("", IN_SERVICE),
]
"""What is wrong with each version, and the gate that has to refuse it."""

WORKER = [
    ("", "", IN_SERVICE),
    ("raise", "load", "load"),
    ("exit", "load", "load"),
    ("", "", IN_SERVICE),
    ("hang", "load", "load"),
    ("exit", "run", "load"),
    ("leak", "run", IN_SERVICE),
    ("nan", "asked", "golden"),
    ("hang", "asked", "golden"),
    ("exit", "asked", "golden"),
    ("raise", "asked", "golden"),
    ("shape", "run", "golden"),
    ("", "", IN_SERVICE),
]
"""Likewise; what is wrong, and when."""

PROBATION_REQUESTS = 20

TIMES = {
    "--load-timeout-s": 4,
    "--warm-timeout-s": 1.5,
    "--golden-timeout-s": 3,
    "--keep-warm-s": 0.1,
    "--probation-requests": PROBATION_REQUESTS,
    "--latency-factor": 0,
}
"""Short, but for loading: starting a process takes long where the machine is busy."""


@pytest.fixture
def start(serve, tmp_path: Path) -> Callable[..., ServerProcess]:
    """Return what starts a server of version 1 of both models, at these times."""
    for model, data in (("onnx", onnx_bytes(1)), ("worker", python_bytes(1))):
        folder = tmp_path / "models" / model
        (folder / "1").mkdir(parents=True)
        (folder / "1" / FILES[model]).write_bytes(data)
        (folder / "model.toml").write_text(WORKER_TOML if model == "worker" else GOLDEN)

    def start(times: Mapping[str, float | str]) -> ServerProcess:
        words = [str(word) for pair in times.items() for word in pair if word != ""]
        state = ("--state-dir", str(tmp_path / "state"), "--allow-publish")
        return serve(tmp_path / "models", *state, *words, ends_well=False)

    return start


Start = Callable[[Mapping[str, float | str]], ServerProcess]


def settled(server: ServerProcess, model: str) -> int:
    """Return the version that answers, when no other is in memory any more."""

    def in_memory() -> list[int]:
        rows = versions_of(server.port, model)
        return [n for n, row in rows.items() if row["kept"] or row["on_probation"]]

    until(lambda: not in_memory(), 30.0)
    (active,) = [n for n, row in versions_of(server.port, model).items() if row["active"]]
    return active


def test_a_storm_of_versions_is_noticed_by_nobody(start: Start) -> None:
    server = start(TIMES)

    def storm(model: str) -> set[int]:
        """Publish everything while clients ask; return the versions that came into service."""
        rows = [(onnx_bytes(n, wrong), gate) for n, (wrong, gate) in enumerate(ONNX, 2)]
        if model == "worker":
            rows = [(python_bytes(n, *wrong), gate) for n, (*wrong, gate) in enumerate(WORKER, 2)]
        with asking(server.port, model) as asked:
            asked.wait_for(10)
            for version, (data, gate) in enumerate(rows, 2):
                ended = publish(server.port, model, version, FILES[model], data)
                assert ended == gate, f"version {version} of {model}"
                asked.wait_for(2 * PROBATION_REQUESTS)
        good = {1} | {version for version, (_, gate) in enumerate(rows, 2) if gate == IN_SERVICE}
        assert asked.failed() == []
        assert asked.versions() == good
        return good

    with ThreadPoolExecutor(2) as pool:
        onnx, worker = pool.map(storm, FILES)
    assert settled(server, "onnx") == max(onnx)
    assert settled(server, "worker") == max(worker)
    until(lambda: len(workers(server)) == 1)


def workers(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


HANGS = {"--request-timeout-s": 1, "--hang-grace-s": 1, "--latency-factor": 0}

RAISED, DIED = "requests failed", "a worker process ended by itself or hung"
NAN = "answers held NaN or infinity"
GREW = "its worker processes take"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [("raise", RAISED), ("exit", DIED), ("nan", NAN), ("hang", RAISED), ("leak", GREW)],
)
def test_what_a_version_fails_in_service_is_answered_by_the_one_before(
    start: Start, wrong: str, why: str
) -> None:
    server = start({"--latency-factor": 0, "--max-growth-bytes": "64MiB"})
    with asking(server.port, "worker", CLIENTS) as asked:
        asked.wait_for(2 * LEAST_LATENCIES)
        data = python_bytes(2, wrong, "late")
        assert publish(server.port, "worker", 2, "model.py", data) == IN_SERVICE
        until(lambda: versions_of(server.port, "worker")[2]["state"] == "withdrawn", 20.0)
        asked.wait_for(2 * LATE_RUNS)
    assert asked.failed() == []
    assert asked.versions() == {1, 2}
    assert why in versions_of(server.port, "worker")[2]["reason"]


@pytest.mark.parametrize(
    ("wrong", "status", "why"),
    [
        ("nan", OK, NAN),
        ("raise", 500, RAISED),
        ("exit", 503, DIED),
        ("hang", 504, DIED),
    ],
)
def test_a_version_that_turns_bad_in_service_is_taken_back(
    start: Start, wrong: str, status: int, why: str
) -> None:
    server = start({**HANGS, "--no-probation-stand-in": ""})
    with asking(server.port, "worker", CLIENTS) as asked:
        asked.wait_for(10)
        data = python_bytes(2, wrong, "late")
        assert publish(server.port, "worker", 2, "model.py", data) == IN_SERVICE
        until(lambda: versions_of(server.port, "worker")[2]["state"] == "withdrawn", 20.0)
        asked.wait_for(2 * LATE_RUNS)
    after = asked.seen[-LATE_RUNS:]
    assert {(one.status, one.version) for one in after} == {(OK, 1)}
    bad = [one for one in asked.seen if one.status != OK or one.version not in (1, 2)]
    assert 1 <= len(bad) <= 4 * CLIENTS
    assert {one.status for one in bad} == {status}
    assert why in versions_of(server.port, "worker")[2]["reason"]
