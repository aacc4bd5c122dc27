"""What a flood of five times the capacity does: to those who are answered, refused, and after it.

One open loop with Poisson arrivals: light load, the flood, light load again. The model is the one
of known cost without batching, so that the capacity is about 900 requests per second and the flood
about 4,500.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import cost_models
import environments
import memory
from generators import OK, REFUSED, Answers, Generators
from load import oip
from peers import launch
from peers.start import start
from picture import Line, Picture
from report import Result, Table, Target

FACTOR = 5
LIGHT = 0.2
BEFORE_S = 4.0
AFTER_S = 8.0
CONNECTIONS = 512
MANY_CONNECTIONS = 3000
PROCESSES = 2
QUEUE_ROWS = 256
DEADLINE_MS = 500
IN_A_ROW = 20
"""So many good answers one after another mean that the server has recovered."""


@dataclass(frozen=True)
class Found:
    """What one flood showed.

    Attributes:
        peak: answers per second of a closed loop, before the flood.
        answers: every request of the open loop.
        flood: when it began and when it ended, seconds.
        memory_bytes: resident bytes of the server and of its workers, every half second of the
            open loop.
    """

    peak: float
    answers: Answers
    flood: tuple[float, float]
    memory_bytes: list[tuple[int, int]]

    @property
    def goodput(self) -> float:
        """Answers with 200 per second of the flood, without its first second."""
        begin_s, end_s = self.flood
        return self.answers.answered_per_s(begin_s + 1, end_s)

    def of_flood(self, status: int) -> Answers:
        """Return the requests of the flood that were answered so."""
        return self.answers.between(*self.flood).with_status(status)

    @property
    def recovery_s(self) -> float:
        """Seconds after the flood until all is well: many good and quick answers in a row.

        Quick is at most three times the median before the flood, and 5 ms more: a single hiccup of
        the machine is no lack of recovery.
        """
        end_s = self.flood[1]
        before = self.answers.between(0, self.flood[0]).with_status(OK)
        quick_s = 3 * float(np.median(before.latency_s)) + 0.005
        after = self.answers.between(end_s, np.inf)
        order = np.argsort(after.due_s)
        good = ((after.status == OK) & (after.latency_s <= quick_s))[order]
        runs = np.convolve(good, np.ones(IN_A_ROW), "valid") == IN_A_ROW
        if not runs.any():
            return float("inf")
        first = int(np.argmax(runs))
        due_s = after.due_s[order][first]
        return 0.0 if first == 0 else float(due_s - end_s)

    @property
    def growth(self) -> float:
        """Resident memory in the flood's last quarter against that in its second quarter."""
        begin_s, end_s = self.flood
        each = [sum(pair) for pair in self.memory_bytes]
        step = (end_s - begin_s) / 4

        def level(from_s: float, to_s: float) -> float:
            chosen = each[int(from_s / memory.STEP_S) : int(to_s / memory.STEP_S) + 1]
            return median(chosen)

        return level(end_s - step, end_s) / level(begin_s + step, begin_s + 2 * step)


def run(*, quick: bool) -> Result:
    """Flood twice: callers without deadlines and a short queue; deadlines and the usual queue."""
    environments.require_pelton()
    flood_s = 10.0 if quick else 60.0
    environments.make_models()
    models = cost_models.folder("overload")
    cost_models.write(models, "short", batch_rows=1, queue_rows=QUEUE_ROWS)
    cost_models.write(models, "usual", batch_rows=1)
    deadline = {"X-Request-Timeout-Ms": str(DEADLINE_MS)}
    ways: dict[str, tuple[str, dict[str, str], int]] = {
        f"queue of {QUEUE_ROWS}": ("short", {}, CONNECTIONS),
        f"usual queue, deadlines of {DEADLINE_MS} ms": ("usual", deadline, MANY_CONNECTIONS),
    }
    found = {}
    for name, (model, headers, connections) in ways.items():
        print(f"overload: {name}", flush=True)
        found[name] = _flood(models, model, headers, connections, flood_s)
    return Result(
        scenario="overload",
        method=_method(flood_s),
        tables=[_table(found), _memory_table(found)],
        targets=_targets(found),
        versions=environments.versions(Path(sys.executable), ("pelton", "numpy", "uvloop")),
        samples={name: _sample(one) for name, one in found.items()},
        pictures=[_picture(next(iter(found.values())))],
    )


def _flood(
    models: Path, model: str, headers: dict[str, str], connections: int, flood_s: float
) -> Found:
    request = oip.request(model, "x", np.ones((1, 8), np.float32), headers)
    launched = launch.pelton(models)
    log = environments.home() / "logs" / f"overload-{model}.log"
    with ExitStack() as stack:
        server = stack.enter_context(start(launched, log))
        load = stack.enter_context(Generators(f"overload-{model}", launched.port, request))
        load.closed(16, 2.0)
        closed = load.closed(16, 4.0)
        closed.require_ok(model)
        peak = closed.answered_per_s(0.5, 4.0)
        phases = [(LIGHT * peak, BEFORE_S), (FACTOR * peak, flood_s), (LIGHT * peak, AFTER_S)]
        with memory.Watch(server.pid) as watch:
            answers = load.open(phases, connections, 0, PROCESSES)
        server.check_alive()
    return Found(peak, answers, (BEFORE_S, BEFORE_S + flood_s), watch.found)


def _statuses(found: Found) -> str:
    kinds = found.answers.between(*found.flood).summary()["statuses"]
    return ", ".join(f"{status}: {count:,}" for status, count in kinds.items())


def _table(found: dict[str, Found]) -> Table:
    rows = []
    for name, one in found.items():
        refused, answered = one.of_flood(REFUSED), one.of_flood(OK)
        refused_ms = f"{refused.latency_ms(99):.1f}" if len(refused.status) else "none"
        rows.append(
            [
                name,
                f"{one.peak:,.0f}",
                f"{one.goodput:,.0f} ({one.goodput / one.peak:.2f}x)",
                f"{answered.latency_ms(50):.0f} / {answered.latency_ms(99):.0f}",
                refused_ms,
                f"{one.recovery_s:.2f}",
                _statuses(one),
            ]
        )
    columns = [
        "",
        "peak, 1/s",
        "goodput, 1/s",
        "answered: median / p99 ms",
        "refused: p99 ms",
        "recovery s",
        "statuses (0: none)",
    ]
    return Table(f"A flood of {FACTOR} times the capacity", columns, rows)


def _memory_table(found: dict[str, Found]) -> Table:
    rows = []
    for name, one in found.items():
        columns = list(zip(*one.memory_bytes, strict=True))
        for who, values in zip(("server", "workers"), columns, strict=True):
            before = values[int(BEFORE_S / memory.STEP_S) - 1]
            cells = [before, max(values), values[-1]]
            rows.append([f"{name}, {who}", *(f"{value / 2**20:.0f}" for value in cells)])
    return Table("Resident memory, MiB", ["", "before", "most", "after"], rows)


def _targets(found: dict[str, Found]) -> list[Target]:
    targets = []
    for name, one in found.items():
        share = one.goodput / one.peak
        targets.append(Target(f"{name}: goodput / peak", share, 0.9, at_most=False))
        refused = one.of_flood(REFUSED)
        if len(refused.status):
            refused_ms = refused.latency_ms(99)
            targets.append(Target(f"{name}: refusals, p99 ms", refused_ms, 50, at_most=True))
        targets += [
            Target(f"{name}: recovery, s", one.recovery_s, 2, at_most=True),
            Target(f"{name}: memory, end of flood / its begin", one.growth, 1.05, at_most=True),
        ]
    return targets


def _sample(one: Found) -> dict[str, Any]:
    seconds = range(int(one.flood[1] + AFTER_S))
    return {
        "peak": one.peak,
        "flood_s": one.flood,
        "recovery_s": one.recovery_s,
        "per_s": {
            str(status): [one.answers.answered_per_s(s, s + 1, status) for s in seconds]
            for status in np.unique(one.answers.status).tolist()
        },
        "flood": {
            str(status): one.of_flood(status).summary()["latency_ms"]
            for status in np.unique(one.answers.status).tolist()
            if len(one.of_flood(status).status)
        },
        "memory_bytes": one.memory_bytes,
    }


def _picture(one: Found) -> Picture:
    seconds = [float(second) for second in range(int(one.flood[1] + AFTER_S))]
    middle = [second + 0.5 for second in seconds]

    def per_s(status: int) -> list[float]:
        return [one.answers.answered_per_s(s, s + 1, status) for s in seconds]

    offered = [float(len(one.answers.between(s, s + 1).status)) for s in seconds]
    return Picture(
        "overload",
        f"A flood of {FACTOR} times the capacity",
        f"a model of 1.1 ms in one worker process, a queue of {QUEUE_ROWS} rows; Poisson arrivals",
        "seconds",
        "requests per second",
        lines=[
            Line("answered", middle, per_s(OK)),
            Line("refused (503)", middle, per_s(REFUSED)),
            Line("offered", middle, offered, reference=True),
        ],
        levels={"peak of a closed loop": one.peak},
    )


def _method(flood_s: float) -> list[str]:
    return [
        "the model of the scenario `batching` with `max_batch_rows = 1`, in one worker process; "
        "its peak is that of a closed loop of 16 connections right before",
        f"one open loop of Poisson arrivals from {PROCESSES} processes: {LIGHT:.0%} of the peak "
        f"for {BEFORE_S:g} s, {FACTOR} times the peak for {flood_s:g} s, {LIGHT:.0%} again for "
        f"{AFTER_S:g} s; latency counts from the moment when a request was due",
        f"`max_queue_rows = {QUEUE_ROWS}`, about 0.3 s of work, and up to {CONNECTIONS} "
        f"connections; the second row has the usual queue, up to {MANY_CONNECTIONS} "
        f"connections, and deadlines of {DEADLINE_MS} ms "
        "(`X-Request-Timeout-Ms`)",
        f"recovered: the first of {IN_A_ROW} requests in a row, due after the flood, that are "
        "answered within three times the median before the flood and 5 ms",
        f"memory: resident bytes of the server and of its workers every {memory.STEP_S:g} s; flat "
        "means the median of the flood's last quarter against that of its second",
    ]
