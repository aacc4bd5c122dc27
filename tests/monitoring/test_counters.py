"""Totals since the start: of all requests, and of the models that are served."""

from __future__ import annotations

import pytest

from pelton.errors import Code
from pelton.messages import Observed, Timing
from pelton.monitoring.counters import Counters, Totals


def counters_of(*models: str) -> Counters:
    counters = Counters(lambda: 0.0)
    for model in models:
        counters.know(model)
    return counters


def test_answers_and_failures_are_counted_apart() -> None:
    counters = counters_of("robot")
    counters.observe(Observed("robot", None, Timing(queue_s=0.5, compute_s=2.0)))
    counters.observe(Observed("robot", None, Timing(queue_s=0.25, compute_s=1.0)))
    counters.observe(Observed("robot", Code.INVALID_INPUT, Timing(9.0, 9.0)))
    expected = Totals(succeeded=2, failed=1, compute_s=3.0, queue_s=0.75)
    assert counters.totals() == expected
    assert counters.by_model() == {"robot": expected}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_a_failure(code: Code) -> None:
    counters = counters_of("robot")
    counters.observe(Observed("robot", code, Timing(1.0, 1.0)))
    assert counters.totals() == Totals(failed=1)


def test_each_model_has_its_own_row() -> None:
    counters = counters_of("robot", "digits", "idle")
    counters.observe(Observed("robot", None, Timing(compute_s=1.0)))
    counters.observe(Observed("digits", Code.MODEL_FAILED, Timing()))
    assert counters.by_model() == {
        "robot": Totals(succeeded=1, compute_s=1.0),
        "digits": Totals(failed=1),
        "idle": Totals(),
    }
    assert counters.totals() == Totals(succeeded=1, failed=1, compute_s=1.0)


def test_names_of_strangers_count_in_the_whole_and_get_no_row() -> None:
    counters = counters_of("robot")
    for index in range(1000):
        counters.observe(Observed(f"guess-{index}", Code.NOT_FOUND, Timing()))
    counters.observe(Observed("", Code.MALFORMED_REQUEST, Timing()))
    assert counters.totals().failed == 1001
    assert counters.by_model() == {"robot": Totals()}


def test_knowing_a_model_again_keeps_what_was_counted() -> None:
    counters = counters_of("robot")
    counters.observe(Observed("robot", None, Timing()))
    counters.know("robot")
    assert counters.by_model() == {"robot": Totals(succeeded=1)}


def test_the_table_that_is_handed_out_is_not_the_one_inside() -> None:
    counters = counters_of("robot")
    counters.by_model().clear()
    assert counters.by_model() == {"robot": Totals()}


def test_uptime_is_told_by_the_clock_that_was_handed_in() -> None:
    moments = iter([100.0, 107.5, 160.0])
    counters = Counters(lambda: next(moments))
    assert [counters.uptime_s(), counters.uptime_s()] == [7.5, 60.0]
