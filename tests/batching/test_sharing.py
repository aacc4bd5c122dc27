"""What is learned of runs about how several instances share what waits."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from pelton.batching.line import Entry, Line
from pelton.batching.sharing import RUNS, Sharing
from pelton.batching.window import Load, WindowPolicy, decide

INSTANCES = 4
FRESH = WindowPolicy(max_rows=8, instances=INSTANCES)
ROW_S, FIXED_S = 0.015, 0.001


class Served:
    """Four instances on a clock of their own, which requests keep busy."""

    def __init__(self, fixed_s: float = FIXED_S, row_s: float = ROW_S, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.policies = [FRESH]
        self.runs: list[int] = []
        self.most_waiting = 0
        self._fixed_s, self._row_s = fixed_s, row_s
        self._sharing = Sharing()
        self._line: Line[Entry] = Line(10**6, 10**9)
        self._running: list[tuple[float, float, int]] = []

    def arrives(self, now_s: float) -> None:
        self._line.put(Entry(rows=1, group="a", bytes=1, arrived_s=now_s))
        self._start(now_s)

    def ends(self) -> tuple[float, int]:
        """Let the next run end; return when, and its rows."""
        ended_s, begun_s, rows = heapq.heappop(self._running)
        policy = self._sharing.learn(self.policies[-1], rows, begun_s, ended_s)
        self.policies.append(policy)
        self._start(ended_s)
        return ended_s, rows

    def forget_all(self) -> None:
        """Let nobody wait any more, and nothing run."""
        self._line.take(tuple(range(self._line.rows)))
        self._running.clear()

    @property
    def next_end_s(self) -> float:
        return self._running[0][0] if self._running else float("inf")

    def _start(self, now_s: float) -> None:
        self.most_waiting = max(self.most_waiting, self._line.rows)
        while self._line.rows and len(self._running) < INSTANCES:
            running = sum(rows for _, _, rows in self._running)
            load = Load(self._line.rows, running)
            decision = decide(self._line.in_order(), self.policies[-1], now_s, load)
            rows = len(self._line.take(decision.take))
            seconds = (self._fixed_s + self._row_s * rows) * self.chance.uniform(0.9, 1.1)
            heapq.heappush(self._running, (now_s + seconds, now_s, rows))
            self.runs.append(rows)


def closed_loop(served: Served, callers: int, runs: int, begin_s: float = 0.0) -> float:
    """Have so many callers ask again as soon as they are answered; return the rows per second."""
    for _ in range(callers):
        served.arrives(begin_s)
    total = 0
    for _ in range(runs):
        now_s, rows = served.ends()
        total += rows
        for _ in range(rows):
            served.arrives(now_s)
    return total / (now_s - begin_s)


def poisson(served: Served, per_s: float, requests: int, begin_s: float = 0.0) -> None:
    for now_s in arrivals(served.chance, per_s, requests, begin_s):
        while served.next_end_s <= now_s:
            served.ends()
        served.arrives(now_s)


def arrivals(chance: random.Random, per_s: float, count: int, now_s: float) -> Iterator[float]:
    for _ in range(count):
        now_s += chance.expovariate(per_s)
        yield now_s


def test_a_model_that_is_never_idle_gets_larger_runs_and_serves_more() -> None:
    served = Served()
    first = closed_loop(served, callers=16, runs=RUNS - 1)
    assert not any(policy.saturated for policy in served.policies)
    later = Served()
    rate = closed_loop(later, callers=16, runs=20 * RUNS)
    assert later.policies[-1].saturated
    assert sum(later.runs[-RUNS:]) > 1.5 * sum(later.runs[:RUNS])
    assert rate > 1.01 * first


@pytest.mark.parametrize("seed", range(3))
def test_at_seven_tenths_of_what_it_can_do_runs_stay_short(seed: int) -> None:
    served = Served(seed=seed)
    poisson(served, 0.7 * INSTANCES / (FIXED_S + ROW_S), 20_000)
    assert served.most_waiting > 2 * INSTANCES
    assert not any(policy.saturated for policy in served.policies)


def test_after_a_pause_it_goes_on_as_before_if_as_much_comes() -> None:
    served = Served()
    closed_loop(served, callers=16, runs=4 * RUNS)
    before = len(served.policies)
    served.forget_all()
    closed_loop(served, callers=16, runs=RUNS, begin_s=1e6)
    assert all(policy.saturated for policy in served.policies[before:])


def test_after_a_pause_it_is_over_soon_if_less_comes() -> None:
    served = Served()
    closed_loop(served, callers=16, runs=4 * RUNS)
    before = len(served.policies)
    served.forget_all()
    poisson(served, 0.5 * INSTANCES / (FIXED_S + ROW_S), 2 * RUNS, begin_s=1e6)
    assert not any(policy.saturated for policy in served.policies[before + RUNS :])


def test_it_does_not_change_to_and_fro() -> None:
    served = Served()
    poisson(served, 0.93 * INSTANCES / (FIXED_S + ROW_S), 20_000)
    changes = sum(one.saturated != two.saturated for one, two in pairwise(served.policies))
    assert changes <= 60


@pytest.mark.parametrize(("fixed_s", "spared_rows"), [(0.001, INSTANCES), (0.015, 0)])
def test_who_gains_little_by_sharing_spares_a_row_for_each_instance(
    fixed_s: float, spared_rows: int
) -> None:
    served = Served(fixed_s=fixed_s)
    poisson(served, 0.6 * INSTANCES / (fixed_s + ROW_S), 3_000)
    assert served.policies[-1].spared_rows == spared_rows


def test_what_was_learned_of_sharing_stands_while_nobody_shares() -> None:
    served = Served()
    poisson(served, 0.7 * INSTANCES / (FIXED_S + ROW_S), 3_000)
    poisson_policy = served.policies[-1]
    assert poisson_policy.spared_rows == INSTANCES
    sharing, policy = served._sharing, poisson_policy
    for number in range(5_000):
        policy = sharing.learn(policy, 1, 1e3 + number, 1e3 + number + FIXED_S + ROW_S)
    assert policy.spared_rows == INSTANCES


def test_runs_that_end_at_the_same_moment_do_no_harm() -> None:
    sharing, policy = Sharing(), FRESH
    for _ in range(2 * RUNS):
        policy = sharing.learn(policy, 1, 7.0, 7.0)
    assert policy.saturated  # as far as such a clock can tell
