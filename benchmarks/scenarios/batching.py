"""How near the throughput of batches comes to the ideal, for a model whose cost is known.

A run costs 1 ms and 0.1 ms for each row, in one worker process. The ideal is that of full batches
without any time between them.
"""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

import cost_models
import environments
from generators import Answers, Generators
from load import oip
from peers import launch
from peers.start import start
from picture import Line, Picture
from report import Result, Table, Target

CONNECTIONS = 64
BOUNDS = (1, 2, 4, 8, 16, 32)
JUDGED_BOUND = 32

Samples = dict[int, list[Answers]]


def run(*, quick: bool) -> Result:
    """Drive one model for each bound, in rounds."""
    environments.require_pelton()
    rounds, seconds = (2, 1.0) if quick else (9, 3.0)
    environments.make_models()
    models = cost_models.folder("batching")
    for bound in BOUNDS:
        cost_models.write(models, f"cost-{bound}", batch_rows=bound)
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    launched = launch.pelton(models)
    found: Samples = {bound: [] for bound in BOUNDS}
    order = random.Random(0)
    with ExitStack() as stack:
        stack.enter_context(start(launched, environments.home() / "logs" / "batching.log"))
        loads = {}
        for bound in BOUNDS:
            request = oip.request(f"cost-{bound}", "x", x)
            loads[bound] = stack.enter_context(
                Generators(f"batching-{bound}", launched.port, request)
            )
            _check(loads[bound], x)
        for number in range(rounds):
            print(f"batching: round {number + 1} of {rounds}", flush=True)
            for bound in order.sample(BOUNDS, len(BOUNDS)):
                answers = loads[bound].closed(CONNECTIONS, seconds)
                answers.require_ok(f"bound {bound}")
                found[bound].append(answers)
    rates = {
        bound: [one.answered_per_s(seconds * 0.1, seconds) for one in answers]
        for bound, answers in found.items()
    }
    return Result(
        scenario="batching",
        method=_method(rounds, seconds),
        tables=[_table(rates, found)],
        targets=_targets(rates),
        versions=environments.versions(Path(sys.executable), ("pelton", "numpy", "uvloop")),
        samples={
            "rows_per_s": {str(bound): values for bound, values in rates.items()},
            "latency": {str(b): [one.summary() for one in all_] for b, all_ in found.items()},
        },
        pictures=[_picture(rates)],
    )


def _check(load: Generators, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    """Ask a few times; the model gives back what it gets."""
    answers = load.open([(50, 0.5)], 4, 0)
    answers.require_ok("Pelton")
    np.testing.assert_array_equal(np.frombuffer(answers.first[-x.nbytes :], np.float32), x[0])


def _table(rates: dict[int, list[float]], found: Samples) -> Table:
    rows = []
    for bound, values in rates.items():
        ideal = cost_models.ideal_rows_per_s(bound)
        latency_ms = median(one.latency_ms(50) for one in found[bound])
        p99_ms = median(one.latency_ms(99) for one in found[bound])
        cells = [f"{median(values):,.0f}", f"{ideal:,.0f}", f"{median(values) / ideal:.2f}"]
        rows.append([str(bound), *cells, f"{latency_ms:.1f}", f"{p99_ms:.1f}"])
    columns = ["`max_batch_rows`", "rows/s", "ideal", "share", "median ms", "p99 ms"]
    return Table(f"Throughput with {CONNECTIONS} connections, one row each", columns, rows)


def _targets(rates: dict[int, list[float]]) -> list[Target]:
    share = median(rates[JUDGED_BOUND]) / cost_models.ideal_rows_per_s(JUDGED_BOUND)
    claim = f"Pelton / ideal, rows/s with batches of at most {JUDGED_BOUND}"
    return [Target(claim, share, 0.9, at_most=False)]


def _picture(rates: dict[int, list[float]]) -> Picture:
    x = [float(bound) for bound in rates]
    ideal = [cost_models.ideal_rows_per_s(bound) for bound in rates]
    return Picture(
        "batching-throughput",
        "Throughput against the bound of a batch",
        f"a model of 1 ms + 0.1 ms per row in one worker process; {CONNECTIONS} connections, "
        "one row each",
        "max_batch_rows",
        "rows per second",
        lines=[
            Line("Pelton", x, [median(values) for values in rates.values()]),
            Line("ideal", x, ideal, reference=True),
        ],
        x_log=True,
        x_ticks={str(bound): float(bound) for bound in rates},
    )


def _method(rounds: int, seconds: float) -> list[str]:
    return [
        "the model is a `model.py` in one worker process (`instances = 1`) that takes 1 ms for a "
        "run and 0.1 ms for each row: it sleeps, and spins for the last 0.4 ms; apart from "
        "`max_batch_rows` every setting is as it comes, so nothing waits on purpose",
        f"{CONNECTIONS} connections, closed loop, one row of 8 floats in each request, binary OIP",
        f"{rounds} rounds; in each, every bound once, in random order, {seconds:g} s; medians",
        "ideal: bound / (1 ms + 0.1 ms * bound), which is full batches and nothing between them",
    ]
