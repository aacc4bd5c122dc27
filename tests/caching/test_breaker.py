"""After a failure nobody asks for a while, then one does."""

from __future__ import annotations

import itertools

from pelton.caching.breaker import CALM_S, FIRST_HOLD_S, LONGEST_HOLD_S, Breaker


def test_a_helper_that_is_well_may_always_be_asked() -> None:
    breaker = Breaker()
    assert all(breaker.allows(now_s) for now_s in (0.0, 0.0, 1.0))
    assert not breaker.succeeded()
    assert not breaker.open


def test_after_a_failure_one_asks_when_the_hold_is_over() -> None:
    breaker = Breaker()
    assert breaker.failed(10.0)
    assert breaker.open
    assert not breaker.allows(10.0)
    assert not breaker.allows(10.0 + 0.99 * FIRST_HOLD_S)
    assert breaker.allows(10.0 + FIRST_HOLD_S)
    assert not breaker.allows(10.0 + FIRST_HOLD_S), "a second one at once"
    assert breaker.succeeded(), "the state changed"
    assert breaker.allows(10.0 + FIRST_HOLD_S)


def test_failures_of_those_who_asked_before_count_once() -> None:
    breaker = Breaker()
    assert breaker.failed(10.0)
    assert not breaker.failed(10.01)
    assert not breaker.failed(10.02)
    assert breaker.allows(10.0 + FIRST_HOLD_S)


def holds(breaker: Breaker, now_s: float) -> float:
    """Fail, and return after how long it may be asked again."""
    breaker.failed(now_s)
    step_s = FIRST_HOLD_S / 2
    asks = (count * step_s for count in itertools.count(1))
    return next(after_s for after_s in asks if breaker.allows(now_s + after_s))


def test_the_hold_doubles_up_to_a_bound_and_begins_anew_after_a_calm_time() -> None:
    breaker, now_s, seen = Breaker(), 0.0, []
    for _ in range(9):
        seen.append(holds(breaker, now_s))
        now_s += seen[-1]
        breaker.succeeded()  # well every other moment, which is no reason to trust it sooner
    assert seen[:4] == [FIRST_HOLD_S * 2**power for power in range(4)]
    assert seen[-1] == LONGEST_HOLD_S
    assert holds(breaker, now_s + CALM_S) == FIRST_HOLD_S


def test_a_probe_that_nobody_hears_of_again_is_followed_by_another() -> None:
    breaker = Breaker()
    breaker.failed(0.0)
    assert breaker.allows(FIRST_HOLD_S)
    assert breaker.allows(2 * FIRST_HOLD_S)
