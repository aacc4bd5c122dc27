"""What the result cache and the gate in front of every route cost a small request.

The model of the scenario `small`, one connection of our generator. The request differs each time by
one number, so that a cache never knows it, or is always the same, so that it always does.
"""

from __future__ import annotations

import http.client
import random
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

import environments
from generators import Generators
from load import oip
from peers.launch import Launch
from peers.start import start
from processes import free_port
from report import Result, Table, Target

PLAIN = "no cache, no keys"
MISS = "cache, a miss"
HIT = "cache, a hit"
KEY = "with a key"

LIMIT = 1.03
X = np.ones((1, 64), np.float32)
BYTES = X.nbytes

Samples = dict[str, dict[str, list[float]]]
"""Row -> figure -> one for each round."""

_KEY = re.compile(r"pelton_[a-z0-9]{12}_[A-Za-z0-9]{43}")


@dataclass(frozen=True)
class Row:
    """One way to serve and to ask.

    Attributes:
        name: in tables.
        flags: of the server.
        differs: whether each request is another.
        headers: of each request.
    """

    name: str
    flags: tuple[str, ...] = ()
    differs: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    def request(self) -> bytes:
        """Return what is sent."""
        return oip.request("small", "x", X, self.headers)


def run(*, quick: bool) -> Result:
    """Measure every row in every round."""
    environments.require_pelton()
    model = environments.make_models() / "small.onnx"
    rounds, seconds = (3, 1.0) if quick else (21, 1.0)
    state = environments.home() / "state" / "costs"
    shutil.rmtree(state, ignore_errors=True)
    key = _make_key(state)
    rows = [
        Row(PLAIN),
        Row(MISS, ("--cache",)),
        Row(HIT, ("--cache",), differs=False),
        Row(KEY, ("--state-dir", str(state)), headers={"Authorization": f"Bearer {key}"}),
    ]
    with ExitStack() as stack:
        ports = {row.name: _serve(stack, row, model) for row in rows}
        for row in rows:
            _check(row, ports[row.name])
        loads = {
            row.name: stack.enter_context(
                Generators(f"costs-{ports[row.name]}", ports[row.name], row.request())
            )
            for row in rows
        }
        samples = _rounds(rows, loads, rounds, seconds)
    return Result(
        scenario="costs",
        method=_method(rounds, seconds),
        tables=[_table(samples)],
        targets=[
            Target(f"{name} / {PLAIN}, median", _over(samples, name), LIMIT, at_most=True)
            for name in (MISS, KEY)
        ],
        versions=environments.versions(Path(sys.executable), ("pelton", "numpy", "uvloop")),
        samples=samples,
    )


def _make_key(state: Path) -> str:
    """Make a key that may infer, and return it.

    Raises:
        RuntimeError: there is none in what the command printed.
    """
    words = ["keys", "create", "--state-dir", state, "--label", "benchmark", "--scope", "infer"]
    done = subprocess.run(
        [environments.PELTON, *words], capture_output=True, text=True, check=False
    )
    found = _KEY.search(done.stdout)
    if found is None:
        raise RuntimeError(f"pelton keys create printed no key: {done.stdout}{done.stderr}")
    return found[0]


def _serve(stack: ExitStack, row: Row, model: Path) -> int:
    port = free_port()
    command = [environments.PELTON, "serve", model, "--port", str(port), *row.flags]
    log = environments.home() / "logs" / f"costs-{port}.log"
    stack.enter_context(start(Launch(command, port, "/v2/health/ready"), log))
    return port


def _check(row: Row, port: int) -> None:
    """See that a server does what its row says.

    Raises:
        RuntimeError: it does not.
    """
    found = [_ask(row.request(), port) for _ in range(2)]
    cached = ["miss", "hit"] if "--cache" in row.flags else [None, None]
    if found != [(http.client.OK, told) for told in cached]:
        raise RuntimeError(f"{row.name}: answered with {found}, expected {cached}")
    if row.headers:
        status, _ = _ask(Row("").request(), port)
        if status != http.client.UNAUTHORIZED:
            raise RuntimeError(f"{row.name}: a request without a key got {status}")


def _ask(request: bytes, port: int) -> tuple[int, str | None]:
    """Send a request; return the status, and where the cache says that the answer came from."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = dict(text.split(": ", 1) for text in fields)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", line.split()[1], body, headers)
        reply = connection.getresponse()
        reply.read()
    finally:
        connection.close()
    return reply.status, reply.headers.get("X-Pelton-Cache")


def _rounds(rows: list[Row], loads: dict[str, Generators], rounds: int, seconds: float) -> Samples:
    samples: Samples = {row.name: {"median_us": [], "p99_us": []} for row in rows}
    order = random.Random(0)
    for number in range(rounds + 1):
        print(f"costs: round {number} of {rounds}", flush=True)
        for row in order.sample(rows, len(rows)):
            stamp = len(row.request()) - BYTES if row.differs else None
            answers = loads[row.name].closed(1, seconds, stamp=stamp)
            answers.require_ok(row.name)
            if number:  # the first round warms everything up
                samples[row.name]["median_us"].append(answers.latency_ms(50) * 1e3)
                samples[row.name]["p99_us"].append(answers.latency_ms(99) * 1e3)
    return samples


def _over(samples: Samples, name: str) -> float:
    """Return the median over the rounds of a row's median over that of the plain server."""
    rounds = zip(samples[name]["median_us"], samples[PLAIN]["median_us"], strict=True)
    return median(one / plain for one, plain in rounds)


def _table(samples: Samples) -> Table:
    rows = []
    for name, figures in samples.items():
        middle = figures["median_us"]
        rows.append(
            [
                name,
                f"{median(middle):.1f}",
                f"{min(middle):.1f} to {max(middle):.1f}",
                f"{median(figures['p99_us']):.1f}",
                f"{_over(samples, name):.3f}",
            ]
        )
    columns = ["", "median us", "range of the rounds", "p99 us", f"/ {PLAIN}, median of ratios"]
    return Table("One small request, one connection", columns, rows)


def _method(rounds: int, seconds: float) -> list[str]:
    return [
        f"{rounds} rounds; in each, every row in random order, {seconds:g} s, one connection of "
        "our generator, closed loop; medians over the rounds, also of the ratios to the plain "
        "server in the same round",
        "the model of `small`, one server for each row, all alive throughout; the first round is "
        "not counted",
        "but for hits, each request holds another number than all before it; so a miss is looked "
        "for, computed and kept, and the oldest goes once the cache is full",
        "the gate is never absent: without keys it looks at the Host header, with keys it checks "
        "the key; what it finds is kept for the next request with the same head on a connection",
    ]
