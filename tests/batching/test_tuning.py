"""The bound of a batch follows from measured runs, and from nothing else."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.batching.tuning import BatchBound

Seconds = Callable[[int], float]


def linear(fixed_s: float, row_s: float) -> Seconds:
    return lambda rows: fixed_s + row_s * rows


def learn(
    bound: BatchBound, seconds: Seconds, runs: int, noise: float = 0.0, waiting_rows: int = 0
):
    draw = random.Random(1)
    for _ in range(runs):
        rows = bound.rows
        bound.learn(rows, seconds(rows) * (1.0 + noise * draw.expovariate(1.0)), waiting_rows)
    return bound


def test_it_begins_small_and_doubles() -> None:
    bound = BatchBound(max_rows=64, target_s=10.0)
    assert bound.rows == 1
    seen = []
    for _ in range(7):
        bound.learn(bound.rows, 0.001, 0)
        seen.append(bound.rows)
    assert seen == [2, 4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "target_s", "best"),
    [
        (0.001, 0.0001, 0.010, 40),
        (0.001, 0.0001, 0.004, 10),
        (0.010, 0.0001, 0.030, 50),
        (0.0, 0.001, 0.020, 10),
        (0.001, 0.0, 0.010, 64),
        (0.010, 0.0001, 0.015, 1),
        (0.001, 0.010, 0.015, 1),
    ],
)
def test_it_finds_the_largest_that_fits(fixed_s, row_s, target_s, best) -> None:
    bound = learn(BatchBound(64, target_s), linear(fixed_s, row_s), 100)
    assert 0.9 * best - 1 <= bound.rows <= best
    # And stays there, although in the end all its runs have the same size.
    seen = []
    for _ in range(1000):
        learn(bound, linear(fixed_s, row_s), 1)
        seen.append(bound.rows)
    assert 0.8 * best - 1 <= min(seen)
    assert max(seen) <= 1.1 * best + 1


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_a_model_that_changes_is_followed(factor: float) -> None:
    target_s = 0.014
    bound = learn(BatchBound(256, target_s), linear(0.001, 0.0002), 2000)
    learn(bound, linear(0.001 * factor, 0.0002 * factor), 200)
    best = (target_s / 2 / factor - 0.001) / 0.0002
    assert 0.5 * best <= bound.rows <= 1.1 * best


def test_the_last_runs_count_where_their_sizes_vary_too() -> None:
    bound = BatchBound(256, 0.020)
    for index in range(2200):
        rows, factor = 1 + index % 32, 1.0 if index < 2000 else 4.0
        bound.learn(rows, factor * (0.001 + 0.0002 * rows), 0)
    assert 4 <= bound.rows <= 7


def test_one_long_pause_does_not_bring_it_down() -> None:
    bound = learn(BatchBound(64, 0.010), linear(0.001, 0.0001), 100)
    bound.learn(bound.rows, 5.0, 0)
    assert bound.rows > 20


@pytest.mark.parametrize("cold_runs", [1, 3, 10])
def test_a_cold_start_is_soon_forgotten(cold_runs: int) -> None:
    bound = learn(BatchBound(64, 0.010), linear(0.5, 0.0), cold_runs)
    assert 36 <= learn(bound, linear(0.001, 0.0001), 10).rows <= 40


def test_a_lucky_run_later_on_is_no_reason_to_forget() -> None:
    seconds, bound, seen = linear(0.001, 0.0001), BatchBound(64, 0.010), []
    for index in range(500):
        rows = bound.rows
        bound.learn(rows, seconds(rows) / (10.0 if index % 5 == 4 else 1.0), 0)
        seen.append(bound.rows)
    assert max(seen[100:]) <= 40


def test_a_target_that_is_used_up_by_waiting_on_purpose_leaves_a_bound() -> None:
    bound = BatchBound(64, -1.0)
    for index in range(100):
        rows = 1 + index % 8
        bound.learn(rows, 0.001 * rows, 100)
    assert 1 <= bound.rows <= 16


def test_runs_too_short_for_the_clock_teach_nothing_wrong() -> None:
    bound = BatchBound(64, 0.010)
    bound.learn(1, 0.0, 0)
    assert 36 <= learn(bound, linear(0.001, 0.0001), 100).rows <= 40


def test_noise_takes_a_margin_but_never_all() -> None:
    target_s, mean_noise = 0.020, 0.3
    noisy = learn(BatchBound(256, target_s), linear(0.001, 0.0001), 500, mean_noise)
    without_margin = (target_s / 2 / (1 + mean_noise) - 0.001) / 0.0001
    assert 0.6 * without_margin < noisy.rows < 0.8 * without_margin


def test_one_unlucky_trial_of_a_larger_run_is_not_the_last() -> None:
    usual = linear(0.010, 0.0001)
    bound = BatchBound(64, 0.030)
    bound.learn(1, usual(1), 0)
    bound.learn(2, 1.0, 0)
    assert learn(bound, usual, 50).rows == 1
    # While only single rows run, nothing tells that most of their time is the same for many.
    assert learn(bound, usual, 1000).rows >= 45


def test_it_falls_by_no_more_than_half_at_a_step() -> None:
    bound = learn(BatchBound(64, 0.016), linear(0.001, 0.0001), 1000)
    assert bound.rows == 64
    seen = [64]
    for _ in range(300):
        learn(bound, linear(0.002, 0.0002), 1)
        seen.append(bound.rows)
    assert all(after >= before // 2 for before, after in itertools.pairwise(seen))
    assert min(seen) > 4
    assert 20 <= seen[-1] <= 30


def test_few_small_runs_do_not_let_it_run_ahead() -> None:
    bound = BatchBound(256, 1.0)
    for index in range(300):
        bound.learn(1 + index % 2, 0.001, 0)
    assert bound.rows <= 4


def test_what_was_measured_long_ago_counts_no_more() -> None:
    bound = BatchBound(256, 1.0)
    bound.learn(100, 0.001, 0)
    assert bound.rows > 100
    for _ in range(300):
        bound.learn(1, 0.001, 0)
    assert bound.rows == 2


def test_a_cost_that_grows_faster_than_the_rows_is_taken_as_a_line_from_nothing() -> None:
    bound = BatchBound(256, 0.2)
    for _ in range(100):
        bound.learn(10, 0.05, 0)
        bound.learn(20, 0.25, 0)
    # 10 ms for each row on average, and 0.1 s for a run, less the margin.
    assert 7 <= bound.rows <= 11


def p99(rows: int, line: int, fixed_s: float, row_s: float) -> float:
    return (1.0 + max(1.0, line / rows)) * (fixed_s + row_s * rows)


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "target_s", "line"),
    [
        (0.001, 0.0001, 0.010, 20),  # the line is shorter than what fits in time
        (0.001, 0.0001, 0.010, 50),  # it is longer, and several runs serve it in time
        (0.0001, 0.0002, 0.020, 60),
        (0.001, 0.0001, 0.004, 50),  # nothing serves it in time
        (0.0005, 0.0005, 0.004, 400),
        (0.010, 0.0001, 0.005, 30),  # large runs serve it soonest
        (0.010, 0.001, 0.005, 6),  # all at once do
    ],
)
def test_a_line_that_is_too_long_is_served_as_soon_as_can_be(
    fixed_s, row_s, target_s, line
) -> None:
    bound = BatchBound(256, target_s)
    for index in range(400):  # sizes vary, so that the fit is exact
        rows = 1 + index % 128
        bound.learn(rows, fixed_s + row_s * rows, line)
    known = {rows: p99(rows, line, fixed_s, row_s) for rows in range(1, 257)}
    in_time = [rows for rows, seconds in known.items() if seconds <= target_s]
    best = max(in_time) if in_time else min(known, key=known.__getitem__)
    assert bound.rows == pytest.approx(best, rel=0.05, abs=1)


def test_a_line_that_has_gone_is_forgotten() -> None:
    bound = BatchBound(256, 0.004)
    rows_after = []
    for waiting_rows in (1000, 0):
        for index in range(500):
            rows = 1 + index % 128
            bound.learn(rows, 0.001 + 0.0001 * rows, waiting_rows)
        rows_after.append(bound.rows)
    assert rows_after[0] == pytest.approx(100, rel=0.05)  # sqrt(a L / b)
    assert rows_after[1] == pytest.approx(10, abs=1)


def test_a_long_line_is_remembered_for_a_while() -> None:
    bound = BatchBound(256, 0.004)
    for index in range(500):
        rows = 1 + index % 128
        bound.learn(rows, 0.001 + 0.0001 * rows, 1000 if index % 10 == 0 else 0)
    assert 85 <= bound.rows <= 105


def test_it_does_not_make_an_overload_of_what_larger_runs_can_carry() -> None:
    target_s, seconds = 0.004, linear(0.001, 0.0001)
    carried_per_s = 10 / seconds(10)  # 2 t(10) is the target; but 64 rows are served faster
    for load in (0.8, 1.1):
        assert p99_s(BatchBound(64, target_s), seconds, load * carried_per_s, 10_000) < 0.010


def p99_s(bound: BatchBound, seconds: Seconds, per_s: float, requests: int) -> float:
    """One instance serves Poisson arrivals in batches under the bound; return the p99."""
    draw = random.Random(3)
    arrivals = deque()
    at_s = 0.0
    for _ in range(requests):
        at_s += draw.expovariate(per_s)
        arrivals.append(at_s)
    took, now_s = [], 0.0
    while arrivals:
        now_s = max(now_s, arrivals[0])
        batch = []
        while arrivals and arrivals[0] <= now_s and len(batch) < bound.rows:
            batch.append(arrivals.popleft())
        run_s = seconds(len(batch)) * (1.0 + 0.05 * draw.expovariate(1.0))
        now_s += run_s
        bound.learn(
            len(batch),
            run_s,
            sum(arrived_s <= now_s for arrived_s in itertools.islice(arrivals, 4096)),
        )
        took += [now_s - arrived_s for arrived_s in batch]
    took = sorted(took[len(took) // 4 :])
    return took[int(0.99 * len(took))]


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_under_load_that_the_bound_can_carry_the_target_is_kept(load: float) -> None:
    target_s = 0.010
    seconds = linear(0.001, 0.0001)
    carried_per_s = 30 / seconds(30)
    assert p99_s(BatchBound(64, target_s), seconds, load * carried_per_s, 20_000) <= target_s


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), st.floats(0.0, 1e9), st.integers(0, 10**6)),
        max_size=100,
    ),
    st.integers(1, 1000),
    st.floats(-1.0, 1e3),
)
def test_whatever_is_measured_the_bound_is_one(runs, max_rows: int, target_s: float) -> None:
    bound = BatchBound(max_rows, target_s)
    for rows, seconds, waiting_rows in runs:
        before = bound.rows
        bound.learn(rows, seconds, waiting_rows)
        assert 1 <= bound.rows <= max_rows
        assert bound.rows >= before // 2
