"""What a refused caller is told follows from what was measured."""

from __future__ import annotations

import pytest

from pelton.batching.rate import (
    LONGEST_S,
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
    for start in range(int(3 * MEMORY_S)):
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
    assert rate.rows_per_s == pytest.approx(10.0, rel=0.3)
