"""Where a model runs follows from its measured times, and from nothing else."""

from __future__ import annotations

import pytest

from pelton.engine.placement import ENTER_S, LEAVE_S, SAMPLES, Placement

QUICK_S, BETWEEN_S, SLOW_S = 50e-6, 300e-6, 2e-3
assert QUICK_S < ENTER_S < BETWEEN_S < LEAVE_S < SLOW_S


def learned(*times_s: float, input_bytes: int = 256) -> Placement:
    placement = Placement()
    for seconds in times_s:
        placement.of(input_bytes).learn(seconds)
    return placement


def test_nothing_is_decided_before_enough_runs_are_seen() -> None:
    assert not learned().of(256).on_loop
    assert not learned(*[QUICK_S] * (SAMPLES - 1)).of(256).on_loop
    assert learned(*[QUICK_S] * SAMPLES).of(256).on_loop


@pytest.mark.parametrize("seconds", [ENTER_S, BETWEEN_S, LEAVE_S, SLOW_S])
def test_a_model_that_was_never_quick_stays_in_threads(seconds: float) -> None:
    assert not learned(*[seconds] * (3 * SAMPLES)).of(256).on_loop


def test_the_median_decides_so_that_a_cold_start_is_forgiven() -> None:
    assert learned(1.0, 1.0, QUICK_S, QUICK_S, QUICK_S).of(256).on_loop
    assert not learned(1.0, 1.0, 1.0, QUICK_S, QUICK_S).of(256).on_loop


def test_only_the_last_runs_count() -> None:
    assert learned(*[SLOW_S] * 50, *[QUICK_S] * 3).of(256).on_loop
    assert not learned(*[SLOW_S] * 50, *[QUICK_S] * 2).of(256).on_loop


def test_a_single_slow_run_does_not_drive_it_off_the_loop() -> None:
    placement = learned(*[QUICK_S] * SAMPLES)
    for seconds in (SLOW_S, QUICK_S, SLOW_S, QUICK_S, QUICK_S):
        placement.of(256).learn(seconds)
        assert placement.of(256).on_loop


def test_a_model_that_became_slow_leaves_the_loop_and_comes_back_when_quick() -> None:
    placement = learned(*[QUICK_S] * SAMPLES)
    decided = []
    for seconds in [SLOW_S] * SAMPLES + [QUICK_S] * SAMPLES:
        placement.of(256).learn(seconds)
        decided.append(placement.of(256).on_loop)
    majority = SAMPLES // 2
    assert decided == [True] * majority + [False] * SAMPLES + [True] * (SAMPLES - majority)


def test_between_the_two_bounds_it_stays_where_it_is() -> None:
    inside = learned(*[QUICK_S] * SAMPLES, *[BETWEEN_S] * 50)
    outside = learned(*[SLOW_S] * SAMPLES, *[BETWEEN_S] * 50)
    assert inside.of(256).on_loop
    assert not outside.of(256).on_loop


def test_each_power_of_two_of_input_bytes_is_decided_for_itself() -> None:
    placement = Placement()
    for _ in range(SAMPLES):
        placement.of(256).learn(QUICK_S)
        placement.of(1 << 20).learn(SLOW_S)
    assert placement.of(256).on_loop
    assert placement.of(511).on_loop  # the same power of two
    assert not placement.of(255).on_loop
    assert not placement.of(512).on_loop
    assert not placement.of(1 << 20).on_loop
    assert not placement.of(0).on_loop
