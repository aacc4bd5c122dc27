"""What a refused caller is told follows from what was measured."""

from __future__ import annotations

import pytest

from pelton.batching.rate import (
    ENOUGH_RUNS,
    HEADROOM,
    LONGEST_S,
    MEMORY_RUNS,
    MEMORY_S,
    SHARE_SERVED,
    SHORTEST_S,
    UNKNOWN_S,
    ServiceRate,
)


def rate_of(*runs: tuple[int, float, float]) -> ServiceRate:
    rate = ServiceRate()
    for rows, started_s, ended_s in runs:
        rate.learn(rows, started_s, ended_s)
    return rate


def test_before_anything_is_measured_a_second_is_told() -> None:
    assert rate_of().rows_per_s is None
    assert rate_of().retry_after_s(1000) == UNKNOWN_S


def test_runs_one_after_the_other() -> None:
    rate = rate_of((10, 0.0, 1.0), (10, 1.0, 2.0), (10, 2.0, 3.0))
    assert rate.rows_per_s == pytest.approx(10.0)
    assert rate.retry_after_s(100) == pytest.approx(SHARE_SERVED * 10.0)


def test_idle_time_does_not_make_a_model_slow() -> None:
    rate = rate_of((10, 0.0, 1.0), (10, 1000.0, 1001.0))
    assert rate.rows_per_s == pytest.approx(10.0)


def test_instances_that_work_at_the_same_time_share_their_seconds() -> None:
    runs = [(10, float(start), start + 1.0) for start in range(20) for _ in range(4)]
    assert rate_of(*runs).rows_per_s == pytest.approx(40.0)
    shifted = [(10, tenth / 4, tenth / 4 + 1.0) for tenth in range(400)]
    assert rate_of(*shifted).rows_per_s == pytest.approx(40.0, rel=0.05)


def test_a_model_that_gets_slower_is_followed() -> None:
    rate = rate_of(*[(10, float(start), start + 1.0) for start in range(100)])
    for start in range(int(3 * MEMORY_RUNS)):
        rate.learn(1, 100.0 + start, 101.0 + start)
    assert rate.rows_per_s == pytest.approx(1.0, rel=0.6)


@pytest.mark.parametrize(
    ("waiting_rows", "told_s"),
    [(0, SHORTEST_S), (1, SHORTEST_S), (2000, 1.0), (10**9, LONGEST_S)],
)
def test_what_is_told_is_bounded(waiting_rows: int, told_s: float) -> None:
    assert rate_of((1000, 0.0, 1.0)).retry_after_s(waiting_rows) == pytest.approx(told_s)


def test_a_clock_that_stands_still_does_no_harm() -> None:
    rate = rate_of((10, 5.0, 5.0))
    assert rate.retry_after_s(100) == UNKNOWN_S
    rate.learn(10, 5.0, 7.0)
    assert rate.rows_per_s == pytest.approx(10.0, rel=0.4)


# -- what cannot be in time ----------------------------------------------------------------------


def steady(runs: int, *, rows: int = 10, run_s: float = 0.1, begin_s: float = 0.0) -> ServiceRate:
    """Measure so many runs, one right after the other."""
    rate = ServiceRate()
    go_on(rate, runs, rows=rows, run_s=run_s, begin_s=begin_s)
    return rate


def go_on(rate: ServiceRate, runs: int, *, rows: int, run_s: float, begin_s: float) -> float:
    """Measure more of them; return when the last has ended."""
    for run in range(runs):
        rate.learn(rows, begin_s + run * run_s, begin_s + (run + 1) * run_s)
    return begin_s + runs * run_s


def test_the_rows_ahead_and_a_usual_run_must_fit_into_most_of_the_time_left() -> None:
    rate = steady(100)  # 100 rows/s
    for rows_ahead in (0, 1, 37, 1000):
        needed_s = (rows_ahead / 100 + 0.1) / HEADROOM
        assert rate.in_time(rows_ahead, needed_s * 1.001, now_s=10.0)
        assert not rate.in_time(rows_ahead, needed_s * 0.999, now_s=10.0)


def test_nothing_is_too_late_before_enough_runs_were_seen() -> None:
    few = steady(int(ENOUGH_RUNS) - 1)
    assert few.in_time(10**9, left_s=1e-9, now_s=0.2)
    assert few.least_s(now_s=0.2) == 0.0
    enough = steady(int(ENOUGH_RUNS) + 1)
    assert not enough.in_time(10**9, left_s=1e-9, now_s=0.4)
    assert enough.least_s(now_s=0.4) == pytest.approx(0.1)


@pytest.mark.parametrize("run_s", [0.001, 0.1, 10.0])
def test_an_estimate_is_forgotten_when_nothing_has_ended_for_long(run_s: float) -> None:
    rate = steady(100, run_s=run_s)
    end_s, memory_s = 100 * run_s, max(MEMORY_S, MEMORY_RUNS * run_s)
    for waited_s, forgotten in ((0.9 * memory_s, False), (1.1 * memory_s, True)):
        assert rate.in_time(10**9, left_s=0.1, now_s=end_s + waited_s) is forgotten
        assert (rate.least_s(now_s=end_s + waited_s) == 0.0) is forgotten


def test_work_without_a_deadline_is_never_too_late() -> None:
    assert steady(100).in_time(10**12, left_s=float("inf"), now_s=10.0)


@pytest.mark.parametrize(("factor", "runs"), [(0.1, 1000), (10.0, 150)])
def test_both_follow_a_model_that_changes(factor: float, runs: int) -> None:
    rate = steady(100)
    end_s = go_on(rate, runs, rows=10, run_s=0.1 * factor, begin_s=10.0)
    needed_s = (50 * factor / 100 + 0.1 * factor) / HEADROOM
    assert rate.in_time(50, 1.05 * needed_s, now_s=end_s)
    assert not rate.in_time(50, 0.95 * needed_s, now_s=end_s)
    assert rate.least_s(now_s=end_s) == pytest.approx(0.1 * factor, rel=0.05)


def test_after_a_pause_in_the_work_the_first_runs_count_for_more_than_all_before() -> None:
    rate = steady(100, run_s=1.0)  # 10 rows/s, for as long as it is remembered
    go_on(rate, 10, rows=10, run_s=0.001, begin_s=200.0)
    assert rate.rows_per_s == pytest.approx(10_000.0, rel=0.01)


def test_a_run_that_hung_is_made_good_within_the_memory() -> None:
    rate = steady(1000, run_s=0.001)
    rate.learn(1, 1.0, 61.0)
    assert rate.least_s(now_s=61.0) == 0.0, "one run alone shows nothing"
    end_s = go_on(rate, int(MEMORY_S / 0.001), rows=10, run_s=0.001, begin_s=61.0)
    assert rate.rows_per_s == pytest.approx(10_000.0, rel=0.5)
    assert rate.least_s(now_s=end_s) == pytest.approx(0.001)


def test_where_runs_vary_the_shortest_of_them_says_what_makes_no_sense() -> None:
    rate, end_s = ServiceRate(), 0.0
    for _ in range(20):
        end_s = go_on(rate, 9, rows=1, run_s=0.5, begin_s=end_s)
        end_s = go_on(rate, 1, rows=1, run_s=0.01, begin_s=end_s)
    end_s = go_on(rate, 9, rows=1, run_s=0.5, begin_s=end_s)
    assert 0.01 < rate.least_s(now_s=end_s) < 0.1
