"""The event loop waits in one place only for quick runs, and only where nobody else comes."""

from __future__ import annotations

import pytest

from pelton.engine.hot_wait import HOT_RUNS, HOT_S, QUIET_LOOKS, HotWait
from pelton.engine.placement import LEAVE_S, SAMPLES

QUICK_S, SLOW_S = 50e-6, 2 * LEAVE_S


def runs(hot: HotWait, count: int, seconds: float = QUICK_S, others_came: bool = False) -> list:
    """Let so many runs pass; return for which of them the loop waited."""
    waited = []
    for _ in range(count):
        patience_s = hot.patience_s()
        assert patience_s in (0.0, HOT_S)
        # While the loop waits it cannot see who comes.
        hot.learn(patience_s, seconds, others_came and not patience_s)
        waited.append(bool(patience_s))
    return waited


def warm() -> HotWait:
    hot = HotWait()
    runs(hot, max(SAMPLES, QUIET_LOOKS) + 1)
    return hot


def test_it_waits_for_quick_runs_and_looks_up_now_and_then() -> None:
    first = max(SAMPLES, QUIET_LOOKS)
    waited = runs(HotWait(), first + 2 * (1 + HOT_RUNS))
    assert waited == [False] * first + ([False] + [True] * HOT_RUNS) * 2


@pytest.mark.parametrize("seconds", [LEAVE_S, SLOW_S, 1.0, 0.0])
def test_it_never_waits_for_a_model_that_is_not_known_to_be_quick(seconds: float) -> None:
    assert not any(runs(HotWait(), 100, seconds))


def test_it_never_waits_where_others_come() -> None:
    assert not any(runs(HotWait(), 100, others_came=True))


def test_when_others_begin_to_come_it_ends_with_the_next_look() -> None:
    waited = runs(warm(), 10 * HOT_RUNS, others_came=True)
    assert waited == [True] * HOT_RUNS + [False] * (9 * HOT_RUNS)


def test_one_look_that_sees_somebody_is_forgotten_after_some_quiet_ones() -> None:
    hot = warm()
    runs(hot, HOT_RUNS)
    assert runs(hot, 1, others_came=True) == [False]
    assert runs(hot, QUIET_LOOKS + 1) == [False] * QUIET_LOOKS + [True]


def test_a_model_that_becomes_slow_is_waited_for_a_few_times_more_at_the_most() -> None:
    waited = runs(warm(), 50, SLOW_S)
    assert sum(waited) <= SAMPLES // 2 + 1
