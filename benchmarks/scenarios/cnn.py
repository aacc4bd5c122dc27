"""ResNet-18 behind the server: how much of ONNX Runtime's own throughput is left, and how soon.

A closed loop of 16 connections against ONNX Runtime called directly, on the same cores, in several
arrangements, interleaved; then open loops with Poisson arrivals from light load to nearly full.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import environments
from environments import HERE
from generators import Answers, Generators
from load import oip
from peers import launch
from peers.start import start
from picture import Line, Picture
from processes import Client
from report import Result, Table, Target

CONNECTIONS = 16
OPEN_CONNECTIONS = 256
SHAPE = (1, 3, 224, 224)
LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
JUDGED_LOAD = 0.7
PELTON = "Pelton, 16 connections"


def arrangements() -> dict[str, dict[str, int]]:
    """Return the ways to call ONNX Runtime that are tried, by name."""
    cores = os.cpu_count() or 1
    half = max(2, cores // 2)
    ways = {
        f"1 session of {cores} threads": (1, cores, 1),
        f"{cores // half} sessions of {half} threads": (cores // half, half, 1),
        f"{cores} sessions of 1 thread": (cores, 1, 1),
        f"1 session of 1 thread, called by {cores}": (1, 1, cores),
    }
    return {
        f"{name}, batches of {batch}": {
            "sessions": sessions,
            "threads": threads,
            "callers": callers,
            "batch": batch,
        }
        for batch in (1, 4, 8)
        for name, (sessions, threads, callers) in ways.items()
    }


def run(*, quick: bool) -> Result:
    """Measure the closed loop and the direct calls in turn, then the open loops."""
    environments.require_pelton()
    rounds, seconds = (2, 1.5) if quick else (7, 4.0)
    model = environments.make_models() / "cnn.onnx"
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    request = oip.request("cnn", "image", image)
    launched = launch.pelton(model)
    logs = environments.home() / "logs"
    with ExitStack() as stack:
        stack.enter_context(start(launched, logs / "cnn-pelton.log"))
        load = stack.enter_context(Generators("cnn", launched.port, request))
        command: list[str | Path] = [sys.executable, HERE / "load" / "direct_onnx.py", model]
        direct = stack.enter_context(Client(command, logs / "cnn-direct.log", piped=True))
        _check(load, model, image)
        rates = _rates(load, direct, rounds, seconds)
        peak = median(rates[PELTON])
        unloaded = _unloaded_ms(load, seconds * 2)
        opened = _open(load, peak, 2 if quick else 4, 3.0 if quick else 10.0)
    samples = {
        "images_per_s": rates,
        "unloaded_ms": unloaded,
        "open": {str(share): [one.summary() for one in found] for share, found in opened.items()},
    }
    return Result(
        scenario="cnn",
        method=_method(rounds, seconds),
        tables=[_rate_table(rates), _latency_table(opened, peak, unloaded)],
        targets=_targets(rates, opened, unloaded),
        versions=environments.versions(Path(sys.executable), ("pelton", "numpy", "onnxruntime")),
        samples=samples,
        pictures=[_picture(opened, peak, unloaded)],
    )


def _check(load: Generators, model: Path, image: np.ndarray[Any, Any]) -> None:
    """Ask once and compare with what ONNX Runtime says itself."""
    import onnxruntime

    answers = load.open([(20, 0.5)], 1, 0)
    answers.require_ok("Pelton")
    found = np.frombuffer(answers.first[-4000:], np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": image})
    np.testing.assert_allclose(found, expected[0], rtol=1e-3, atol=1e-3)


def _rates(load: Generators, direct: Client, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return images per second of each round, for Pelton and for each arrangement."""
    ways = arrangements()
    rates: dict[str, list[float]] = {name: [] for name in (PELTON, *ways)}
    order = random.Random(0)
    for number in range(rounds + 1):
        print(f"cnn: round {number} of {rounds}", flush=True)
        for name in order.sample(list(rates), len(rates)):
            if name == PELTON:
                answers = load.closed(CONNECTIONS, seconds)
                answers.require_ok(name)
                rate = answers.answered_per_s(seconds * 0.1, seconds)
            else:
                found = direct.ask(ways[name] | {"seconds": seconds})
                rate = found["rows"] / found["seconds"]
            if number:  # the first round warms everything up
                rates[name].append(rate)
    return rates


def _unloaded_ms(load: Generators, seconds: float) -> float:
    """Return the median latency of one connection that asks again and again."""
    answers = load.closed(1, seconds)
    answers.require_ok("Pelton")
    return answers.latency_ms(50)


def _open(load: Generators, peak: float, rounds: int, seconds: float) -> dict[float, list[Answers]]:
    opened: dict[float, list[Answers]] = {share: [] for share in LOADS}
    order = random.Random(1)
    for number in range(rounds):
        print(f"cnn: open loops, round {number + 1} of {rounds}", flush=True)
        for share in order.sample(LOADS, len(LOADS)):
            answers = load.open([(peak * share, seconds)], OPEN_CONNECTIONS, number)
            answers.require_ok(f"Pelton at {share:.0%} load")
            opened[share].append(answers)
    return opened


def latency_ms(found: list[Answers], percent: float) -> float:
    """Return a percentile over the requests of all rounds, milliseconds."""
    return float(np.percentile(np.concatenate([one.latency_s for one in found]), percent)) * 1e3


def _best(rates: dict[str, list[float]]) -> str:
    return max((name for name in rates if name != PELTON), key=lambda name: median(rates[name]))


def share_of_best(rates: dict[str, list[float]]) -> float:
    """Return the median over the rounds of Pelton's rate over that of the best arrangement.

    The best of twelve medians is partly the luckiest. So in each round Pelton is held against the
    arrangement that was best in all other rounds.
    """
    shares = []
    for number, rate in enumerate(rates[PELTON]):
        others = {name: found[:number] + found[number + 1 :] for name, found in rates.items()}
        shares.append(rate / rates[_best(others)][number])
    return median(shares)


def _rate_table(rates: dict[str, list[float]]) -> Table:
    best = _best(rates)
    rows = [
        [
            f"ONNX Runtime directly, {name}" if name != PELTON else name,
            f"{median(found):.1f}",
            f"{min(found):.1f} to {max(found):.1f}",
            f"{median(found) / median(rates[best]):.2f}",
        ]
        for name, found in rates.items()
    ]
    return Table("Images per second", ["", "median", "range", "of the best direct one"], rows)


def _latency_table(opened: dict[float, list[Answers]], peak: float, unloaded_ms: float) -> Table:
    rows = [["one at a time", "", f"{unloaded_ms:.1f}", "", "", ""]]
    for share, found in opened.items():
        p50, p90, p99 = (latency_ms(found, percent) for percent in (50, 90, 99))
        cells = [f"{peak * share:.0f}", f"{p50:.1f}", f"{p90:.1f}", f"{p99:.1f}"]
        rows.append([f"{share:.0%}", *cells, f"{p99 / unloaded_ms:.1f}x"])
    columns = ["load", "images/s", "median ms", "p90 ms", "p99 ms", "p99 / unloaded median"]
    return Table("Latency under Poisson arrivals", columns, rows)


def _targets(
    rates: dict[str, list[float]], opened: dict[float, list[Answers]], unloaded_ms: float
) -> list[Target]:
    share = share_of_best(rates)
    slow = latency_ms(opened[JUDGED_LOAD], 99) / unloaded_ms
    return [
        Target("Pelton / best direct arrangement, images/s", share, 0.95, at_most=False),
        Target(f"p99 at {JUDGED_LOAD:.0%} load / unloaded median", slow, 3.0, at_most=True),
    ]


def _picture(opened: dict[float, list[Answers]], peak: float, unloaded_ms: float) -> Picture:
    x = [peak * share for share in opened]
    lines = [
        Line(name, x, [latency_ms(found, percent) for found in opened.values()])
        for name, percent in (("99th percentile", 99), ("90th percentile", 90), ("median", 50))
    ]
    return Picture(
        "cnn-latency-against-load",
        "Latency against load, ResNet-18",
        f"Poisson arrivals; a closed loop of {CONNECTIONS} connections reaches {peak:.0f} images/s",
        "offered load, images per second",
        "latency from the scheduled arrival, ms",
        lines=lines,
        y_log=True,
        levels={
            "3 x the unloaded median": 3 * unloaded_ms,
            "unloaded median": unloaded_ms,
        },
    )


def _method(rounds: int, seconds: float) -> list[str]:
    return [
        "ResNet-18 at 224 x 224 with random weights, float32, batch axis `batch`; a request is "
        "600 KB of binary OIP; `pelton serve cnn.onnx`, every setting as it comes",
        f"{rounds} rounds after one to warm up; in each, the closed loop and every direct "
        f"arrangement once, in random order, {seconds:g} s each; medians over the rounds; in each "
        "round Pelton is held against the arrangement with the best median of the other rounds, "
        "since the best of twelve is partly the luckiest; the target is the median of these ratios",
        f"open loops: Poisson arrivals at {', '.join(f'{share:.0%}' for share in LOADS)} of the "
        "closed loop's median throughput, in random order; latency counts from the moment when a "
        "request was due; percentiles over all requests of all rounds",
        "the unloaded median is that of one connection that asks again as soon as it is answered",
        "the load generator runs on the same cores, as everything does",
    ]
