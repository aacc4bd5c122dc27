"""How many small requests one process answers, and how soon: 64 floats in, 8 out, driven by wrk.

All servers live through the whole run. A round drives each row with 1 and with 32 connections for
a few seconds, in random order, so that a busy moment of the machine does not hit one row alone.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

import environments
from environments import HERE
from generators import Generators
from peers import launch
from peers.start import Started, reason, start_all
from peers.table import PACKAGES, PEERS
from picture import Picture
from processes import Client
from report import Result, Table, Target
from scenarios import small_rows
from scenarios.small_rows import (
    DIRECT,
    FASTAPI,
    LIMIT,
    LITSERVE,
    MLSERVER,
    MOSEC,
    PELTON,
    PELTON_JSON,
    PELTON_OURS,
    TRITON,
    Row,
)

Samples = dict[str, dict[str, list[dict[str, float]]]]
"""Row -> connections -> round -> what was counted."""

CONNECTIONS = (1, 32)

TARGETS = (
    (TRITON, 32, 1.2),
    (MOSEC, 32, 1.0),
    (MLSERVER, 32, 12.0),
    (LITSERVE, 32, 20.0),
    (FASTAPI, 32, 4.0),
)
LATENCY_TARGETS = ((TRITON, 0.5), (FASTAPI, 0.5))


def run(*, quick: bool) -> Result:
    """Drive every row with 1 and 32 connections."""
    environments.require_pelton()
    tools = _Tools(environments.require_wrk(), seconds=1 if quick else 2)
    rounds = 2 if quick else 7
    model = environments.make_models() / "small.onnx"
    with ExitStack() as stack:
        peers = [*PEERS.items(), ("bare", launch.bare_http)]
        started = start_all(stack, peers, model, "small")
        if "pelton" in started.absent:
            raise RuntimeError(started.absent["pelton"])
        rows = small_rows.questions(started.ports)
        tools.open(stack, rows, started.ports, model)
        _check_answers(rows, started.ports)
        samples = _rounds(tools, [*(row.name for row in rows), DIRECT], rounds, started.absent)
    return Result(
        scenario="small",
        method=_method(rounds, tools.seconds),
        tables=[_table(samples)],
        targets=_targets(samples),
        versions=_versions(started),
        samples=samples,
        pictures=[_picture(samples)],
        absent=started.absent,
    )


def _rounds(tools: _Tools, names: list[str], rounds: int, absent: dict[str, str]) -> Samples:
    """Drive every row in every round; a peer that fails is left out of the rest, and said so."""
    samples: Samples = {name: {str(count): [] for count in CONNECTIONS} for name in names}
    order = random.Random(0)
    turns = [(name, count) for name in names for count in CONNECTIONS]
    for number in range(rounds + 1):
        print(f"small: round {number} of {rounds}", flush=True)
        for name, count in order.sample(turns, len(turns)):
            if name not in samples:
                continue
            try:
                counted = tools.drive(name, count)
            except RuntimeError as error:
                if name in (PELTON, PELTON_JSON, PELTON_OURS):
                    raise
                absent[name] = reason(error)
                del samples[name]
            else:
                if number:  # the first round warms everything up
                    samples[name][str(count)].append(counted)
    return samples


class _Tools:
    """What asks: wrk, our generator, or nobody but a loop around the model."""

    def __init__(self, wrk: Path, seconds: int) -> None:
        self._wrk = wrk
        self.seconds = seconds
        self._rows: dict[str, tuple[Row, int]] = {}
        self._generators: dict[str, Generators] = {}
        self._direct: Client

    def open(self, stack: ExitStack, rows: list[Row], ports: dict[str, int], model: Path) -> None:
        """Start what lives through the whole run."""
        log = environments.home() / "logs" / "small-direct.log"
        command: list[str | Path] = [sys.executable, HERE / "load" / "direct_onnx.py", model]
        self._direct = stack.enter_context(Client(command, log, piped=True))
        for row in rows:
            port = ports[row.server]
            self._rows[row.name] = (row, port)
            if row.framing:
                ours = Generators(f"small-{row.server}", port, row.request(), row.framing)
                self._generators[row.name] = stack.enter_context(ours)

    def drive(self, name: str, connections: int) -> dict[str, float]:
        """Measure one row."""
        if name == DIRECT:
            return self._call()
        if name in self._generators:
            return self._generate(name, connections)
        return self._run_wrk(*self._rows[name], connections)

    def _call(self) -> dict[str, float]:
        order = {"sessions": 1, "threads": 1, "callers": 1, "batch": 1, "seconds": self.seconds}
        found: dict[str, float] = self._direct.ask(order)
        duration_us = found.pop("seconds") * 1e6
        return {"requests": found.pop("rows"), "duration_us": duration_us, **found}

    def _generate(self, name: str, connections: int) -> dict[str, float]:
        answers = self._generators[name].closed(connections, self.seconds)
        answers.require_ok(name)
        return {
            "requests": len(answers.status),
            "duration_us": float((answers.due_s + answers.latency_s).max()) * 1e6,
            "median_us": answers.latency_ms(50) * 1e3,
            "p99_us": answers.latency_ms(99) * 1e3,
        }

    def _run_wrk(self, row: Row, port: int, connections: int) -> dict[str, float]:
        body = environments.home() / "question"
        body.write_bytes(row.body)
        load = (f"-c{connections}", f"-d{self.seconds}s", "-t1", "--latency", "--timeout", "10s")
        script = (HERE / "load" / "post.lua", f"http://127.0.0.1:{port}{row.path}", "--", body)
        headers = [f"{name}: {value}" for name, value in row.headers.items()]
        command: list[str | Path] = [self._wrk, *load, "-s", *script, *headers]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        counted: dict[str, float] = json.loads(line.removeprefix("RESULT "))
        if counted["errors"]:
            raise RuntimeError(f"{row.name}: {counted['errors']} requests failed")
        return counted


def _check_answers(rows: list[Row], ports: dict[str, int]) -> None:
    """Ask each row once: all must answer the same 8 numbers."""
    answers = {}
    for row in rows:
        if row.server == "bare":
            continue
        with Generators("check", ports[row.server], row.request(), row.framing or "http") as one:
            asked = one.open([(20, 0.5)], 1, 0)
        asked.require_ok(row.name)
        answers[row.name] = small_rows.numbers(row, asked.first)
    for name, answer in answers.items():
        np.testing.assert_allclose(
            answer, answers[PELTON], rtol=1e-4, atol=1e-4, err_msg=f"{name} answers otherwise"
        )
    assert np.abs(answers[PELTON]).max() > 1, "a model of random weights gives no zeros"


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
        cells = [
            f"{throughput(samples, row, 1):,.0f}",
            f"{latency_us(samples, row, 1):.0f}",
            f"{throughput(samples, row, 32):,.0f}",
            f"{latency_us(samples, row, 32):.0f}",
            f"{p99_us:.0f}",
        ]
        rows.append([row, *cells])
    columns = ["", "1: requests/s", "median us", "32: requests/s", "median us", "p99 us"]
    return Table("With 1 and with 32 connections", columns, rows)


def _targets(samples: Samples) -> list[Target]:
    def over(peer: str, connections: int) -> float | None:
        if peer not in samples:
            return None
        return throughput(samples, PELTON, connections) / throughput(samples, peer, connections)

    def share(peer: str) -> float | None:
        if peer not in samples:
            return None
        return latency_us(samples, PELTON, 1) / latency_us(samples, peer, 1)

    claim = f"{PELTON} / {{}}, requests/s at {{}} connections"
    rates = [
        Target(claim.format(peer, count), over(peer, count), factor, at_most=False)
        for peer, count, factor in TARGETS
    ]
    claim = f"{PELTON} / {{}}, median at 1 connection"
    times = [
        Target(claim.format(peer), share(peer), limit, at_most=True)
        for peer, limit in LATENCY_TARGETS
    ]
    return [*rates, *times]


def _picture(samples: Samples) -> Picture:
    others = [name for name in samples if not name.startswith(LIMIT)]
    return Picture(
        "small-throughput",
        "Small requests answered per second",
        "64 floats in, 8 out; 32 connections; one server process",
        "requests per second",
        bars={name: throughput(samples, name, 32) for name in others},
        highlight=[PELTON, PELTON_JSON, PELTON_OURS],
    )


def _method(rounds: int, seconds: int) -> list[str]:
    return [
        f"{rounds} rounds; in each, every row with 1 and with 32 connections in random order, "
        f"{seconds} s each, from one thread of wrk; medians over the rounds",
        "wrk speaks no WebSocket: that row is driven by our own generator, and Pelton stands "
        "beside it, driven by the same",
        "peers as their documents and defaults have them carry the targets; a second row of a peer "
        "is the quickest way we found to set it up; ../README.md has each one's configuration",
        "all servers are alive throughout; before the first round every row is asked and all must "
        "give the same 8 numbers, and is driven once unmeasured",
        "Triton is asked with the very bytes that Pelton gets, MLServer with those of Pelton in "
        "JSON: it has no binary tensors over HTTP; the targets are those of binary tensors, which "
        "Pelton's clients and tritonclient send unless told otherwise",
    ]


def _versions(started: Started) -> dict[str, str]:
    ours = ("pelton", "numpy", "uvloop", "httptools", "onnxruntime")
    found = environments.versions(Path(sys.executable), ours)
    for peer, packages in PACKAGES.items():
        if peer in started.ports:
            found |= environments.versions(environments.python_of(peer), packages)
    return found
