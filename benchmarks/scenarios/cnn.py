"""ResNet-18 behind the server: how much of ONNX Runtime's own throughput is left, and how soon.

A closed loop of 16 connections against ONNX Runtime called directly, on the same cores, in several
arrangements, interleaved; then open loops with Poisson arrivals from light load to nearly full,
in each round as parts of what a closed loop has just reached.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import ExitStack
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Opened:
    """One round of open loops.

    Attributes:
        peak_per_s: what a closed loop reached just before, of which the loads are parts.
        unloaded_ms: the median latency of one connection, just before.
        at: load -> what came of it.
    """

    peak_per_s: float
    unloaded_ms: float
    at: dict[float, Answers]


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
        opened = [_open(load, number, rounds, seconds) for number in range(rounds)]
    samples = {
        "images_per_s": rates,
        "open": [
            {
                "peak_per_s": one.peak_per_s,
                "unloaded_ms": one.unloaded_ms,
                "loads": {str(share): found.summary() for share, found in one.at.items()},
            }
            for one in opened
        ],
    }
    return Result(
        scenario="cnn",
        method=_method(rounds, seconds),
        tables=[_rate_table(rates), _latency_table(opened)],
        targets=_targets(rates, opened),
        versions=environments.versions(Path(sys.executable), ("pelton", "numpy", "onnxruntime")),
        samples=samples,
        pictures=[_picture(opened)],
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


def _open(load: Generators, number: int, rounds: int, seconds: float) -> Opened:
    """Measure one round of open loops, and just before it what they are held against."""
    print(f"cnn: open loops, round {number + 1} of {rounds}", flush=True)
    full = load.closed(CONNECTIONS, seconds)
    alone = load.closed(1, seconds / 2)
    peak_per_s = full.answered_per_s(seconds * 0.1, seconds)
    at = {}
    for share in random.Random(number).sample(LOADS, len(LOADS)):
        at[share] = load.open([(peak_per_s * share, 2 * seconds)], OPEN_CONNECTIONS, number)
        at[share].require_ok(f"Pelton at {share:.0%} load")
    for answers in (full, alone):
        answers.require_ok("Pelton")
    return Opened(peak_per_s, alone.latency_ms(50), at)


def latency_ms(opened: list[Opened], share: float, percent: float) -> float:
    """Return the median over the rounds of a percentile at one load, milliseconds."""
    return median(one.at[share].latency_ms(percent) for one in opened)


def slower(opened: list[Opened], share: float) -> list[float]:
    """Return for each round the 99th percentile at one load over its unloaded median."""
    return [one.at[share].latency_ms(99) / one.unloaded_ms for one in opened]


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


def _latency_table(opened: list[Opened]) -> Table:
    unloaded_ms = median(one.unloaded_ms for one in opened)
    rows = [["one at a time", "", f"{unloaded_ms:.1f}", "", "", "", ""]]
    for share in LOADS:
        offered = median(one.peak_per_s * share for one in opened)
        times = [f"{latency_ms(opened, share, percent):.1f}" for percent in (50, 90, 99)]
        found = slower(opened, share)
        ratios = [f"{median(found):.2f}x", f"{min(found):.1f} to {max(found):.1f}"]
        rows.append([f"{share:.0%}", f"{offered:.0f}", *times, *ratios])
    columns = [
        "load",
        "images/s",
        "median ms",
        "p90 ms",
        "p99 ms",
        "p99 / unloaded median",
        "range of the rounds",
    ]
    return Table("Latency under Poisson arrivals", columns, rows)


def _targets(rates: dict[str, list[float]], opened: list[Opened]) -> list[Target]:
    share = share_of_best(rates)
    slow = median(slower(opened, JUDGED_LOAD))
    return [
        Target("Pelton / best direct arrangement, images/s", share, 0.95, at_most=False),
        Target(f"p99 at {JUDGED_LOAD:.0%} load / unloaded median", slow, 3.0, at_most=True),
    ]


def _picture(opened: list[Opened]) -> Picture:
    peak = median(one.peak_per_s for one in opened)
    unloaded_ms = median(one.unloaded_ms for one in opened)
    x = [peak * share for share in LOADS]
    lines = [
        Line(name, x, [latency_ms(opened, share, percent) for share in LOADS])
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
        f"then {rounds} rounds of open loops: in each, the closed loop for {seconds:g} s, one "
        f"connection that asks again as soon as it is answered for {seconds / 2:g} s, and Poisson "
        f"arrivals at {', '.join(f'{share:.0%}' for share in LOADS)} of what that closed loop "
        f"reached, in random order, {2 * seconds:g} s each; latency counts from the moment when a "
        "request was due",
        "percentiles are those of a round, and the figures told are medians over the rounds, also "
        "of the ratio of the 99th percentile to the same round's median of one connection: the "
        "machine's speed changes in the course of a run",
        "the load generator runs on the same cores, as everything does",
    ]
