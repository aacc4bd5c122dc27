"""How many small requests one process answers, and how soon: 64 floats in, 8 out, driven by wrk.

All servers live through the whole run. A round drives each row with 1 and with 32 connections for
a few seconds, in random order, so that a busy moment of the machine does not hit one row alone.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

import environments
from environments import HERE
from peers.launch import PEERS
from processes import Server
from report import Result, Table, Target

Floats = npt.NDArray[np.float32]
Samples = dict[str, dict[str, list[dict[str, int]]]]
"""Row -> connections -> round -> what wrk counted."""

CONNECTIONS = (1, 32)
OIP_PATH = "/v2/models/small/infer"


@dataclass(frozen=True)
class Row:
    """One server and one way to write the same question.

    Attributes:
        name: as the table shows it.
        server: which of the peers answers.
        path: where the question goes.
        headers: what it says of itself.
        body: the question.
    """

    name: str
    server: str
    path: str
    headers: dict[str, str]
    body: bytes

    def answer_of(self, headers: http.client.HTTPMessage, body: bytes) -> Floats:
        """Read the model's output from an answer, float32 [1, 8]."""
        json_bytes = headers.get("Inference-Header-Content-Length")
        if json_bytes is not None:
            return np.frombuffer(body, np.float32, offset=int(json_bytes)).reshape(1, 8)
        answer = json.loads(body)
        values = answer["y"] if "y" in answer else answer["outputs"][0]["data"]
        return np.array(values, np.float32).reshape(1, 8)


def questions() -> list[Row]:
    """Return the rows, all with the same 64 numbers."""
    x = np.random.default_rng(0).normal(size=(1, 64)).round(4)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64]}
    binary_head = {
        "inputs": [tensor | {"parameters": {"binary_data_size": 256}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(binary_head).encode()
    binary = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    as_json = {"Content-Type": "application/json"}
    oip = json.dumps({"inputs": [tensor | {"data": x.ravel().tolist()}]}).encode()
    plain = json.dumps({"x": x.tolist()}).encode()
    packed = head + x.astype(np.float32).tobytes()
    return [
        Row("Pelton, OIP binary", "pelton", OIP_PATH, binary, packed),
        Row("Pelton, OIP JSON", "pelton", OIP_PATH, as_json, oip),
        Row("FastAPI + uvicorn, def handler, JSON", "fastapi", "/predict", as_json, plain),
        Row("FastAPI + uvicorn, async handler, JSON", "fastapi-async", "/predict", as_json, plain),
        Row("MLServer, OIP JSON", "mlserver", OIP_PATH, as_json, oip),
        Row("MLServer without worker, OIP JSON", "mlserver-0", OIP_PATH, as_json, oip),
    ]


def run(*, quick: bool) -> Result:
    """Drive every row with 1 and 32 connections."""
    environments.require_pelton()
    wrk = environments.require_wrk()
    rounds, seconds = (2, 1) if quick else (9, 3)
    rows = questions()
    samples: Samples = {row.name: {str(count): [] for count in CONNECTIONS} for row in rows}
    turns = [(row, count) for row in rows for count in CONNECTIONS]
    order = random.Random(0)
    with ExitStack() as stack:
        ports = _start_servers(stack)
        _check_answers(rows, ports)
        for row in rows:
            _drive(wrk, row, ports[row.server], 32, seconds)
        for number in range(rounds):
            print(f"small: round {number + 1} of {rounds}", flush=True)
            for row, count in order.sample(turns, len(turns)):
                counted = _drive(wrk, row, ports[row.server], count, seconds)
                samples[row.name][str(count)].append(counted)
    return Result(
        scenario="small",
        method=_method(rounds, seconds),
        tables=[_table(samples)],
        targets=_targets(samples, [row.name for row in rows]),
        versions=_versions(),
        samples=samples,
    )


def _start_servers(stack: ExitStack) -> dict[str, int]:
    model = environments.make_models() / "small.onnx"
    ports = {}
    for name, launch_of in PEERS.items():
        launch = launch_of(model)
        log = environments.home() / "logs" / f"small-{name}.log"
        server = stack.enter_context(Server(launch.command, log, launch.environment))
        server.wait_for_ready(launch.port, launch.ready_path)
        ports[name] = launch.port
    return ports


def _check_answers(rows: list[Row], ports: dict[str, int]) -> None:
    """Ask each row once: all must answer the same 8 numbers."""
    answers = []
    for row in rows:
        connection = http.client.HTTPConnection("127.0.0.1", ports[row.server], timeout=10)
        connection.request("POST", row.path, row.body, row.headers)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{row.name} answered {reply.status}: {body[:200]!r}")
        answers.append(row.answer_of(reply.headers, body))
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-4, atol=1e-4)
    assert np.abs(answers[0]).max() > 1, "a model of random weights gives no zeros"


def _drive(wrk: Path, row: Row, port: int, connections: int, seconds: int) -> dict[str, int]:
    body = environments.home() / "question"
    body.write_bytes(row.body)
    load = (f"-c{connections}", f"-d{seconds}s", "-t1", "--latency", "--timeout", "10s")
    script = (HERE / "load" / "post.lua", f"http://127.0.0.1:{port}{row.path}", "--", body)
    headers = [f"{name}: {value}" for name, value in row.headers.items()]
    command: list[str | Path] = [wrk, *load, "-s", *script, *headers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    counted: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    if counted["errors"]:
        raise RuntimeError(f"{row.name}: {counted['errors']} requests failed")
    return counted


def throughput(samples: Samples, row: str, connections: int) -> float:
    """Return the median over the rounds of requests per second."""
    rounds = samples[row][str(connections)]
    return median(one["requests"] / one["duration_us"] * 1e6 for one in rounds)


def latency_us(samples: Samples, row: str, connections: int) -> float:
    """Return the median over the rounds of the median latency, microseconds."""
    return median(one["median_us"] for one in samples[row][str(connections)])


def _table(samples: Samples) -> Table:
    rows = []
    for row in samples:
        p99_us = median(one["p99_us"] for one in samples[row]["32"])
        rows.append(
            [
                row,
                f"{throughput(samples, row, 1):,.0f}",
                f"{latency_us(samples, row, 1):.0f}",
                f"{throughput(samples, row, 32):,.0f}",
                f"{latency_us(samples, row, 32):.0f}",
                f"{p99_us:.0f}",
            ]
        )
    columns = ["", "1: requests/s", "median us", "32: requests/s", "median us", "p99 us"]
    return Table("With 1 and with 32 connections", columns, rows)


def _targets(samples: Samples, rows: list[str]) -> list[Target]:
    binary, _, fastapi, _, mlserver, _ = rows
    rate = throughput(samples, binary, 32)
    share = latency_us(samples, binary, 1) / latency_us(samples, fastapi, 1)
    targets = [
        Target(
            f"{binary} / {peer}, requests/s at 32 connections",
            rate / throughput(samples, peer, 32),
            factor,
            at_most=False,
        )
        for peer, factor in ((fastapi, 4), (mlserver, 10))
    ]
    claim = f"{binary} / {fastapi}, median at 1 connection"
    return [*targets, Target(claim, share, 0.5, at_most=True)]


def _method(rounds: int, seconds: int) -> list[str]:
    return [
        f"{rounds} rounds; in each, every row with 1 and with 32 connections in random order, "
        f"{seconds} s each, from one thread of wrk; medians over the rounds",
        "FastAPI with a `def` handler, as its documents advise for code that blocks, and MLServer "
        "with its default of one worker process carry the targets; the rows below each are the "
        "quickest way we found to set them up, with the model on the server's event loop",
        "one server process each, all alive throughout; before the first round every row is "
        "asked once and all must give the same 8 numbers, and is driven once unmeasured",
        "FastAPI knows no binary tensors and MLServer has none over HTTP, so Pelton is shown with "
        "JSON too, where MLServer and it get the same bytes; the targets are those of its binary "
        "tensors, which its clients and tritonclient send unless told otherwise",
    ]


def _versions() -> dict[str, str]:
    found = environments.versions(
        Path(sys.executable), ("pelton", "numpy", "uvloop", "httptools", "onnxruntime")
    )
    fastapi = ("fastapi", "uvicorn", "pydantic")
    found |= environments.versions(environments.python_of("fastapi"), fastapi)
    found |= environments.versions(environments.python_of("mlserver"), ("mlserver",))
    return found
