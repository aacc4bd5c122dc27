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


def test_each_version_has_its_own_row() -> None:
    counters = counters_of("robot")
    for version, compute_s in ((10, 1.0), (2, 4.0), (10, 2.0)):
        counters.observe(Observed("robot", None, Timing(compute_s=compute_s), 1, version))
    counters.observe(Observed("robot", Code.MODEL_FAILED, Timing(), 0, 2))
    counters.observe(Observed("robot", Code.NOT_FOUND, Timing()))
    assert list(counters.by_version("robot").items()) == [
        (2, Totals(succeeded=1, failed=1, compute_s=4.0)),
        (10, Totals(succeeded=2, compute_s=3.0)),
    ]
    assert counters.by_model() == {"robot": Totals(succeeded=3, failed=2, compute_s=7.0)}
    assert counters.by_version("other") == {}


def test_a_model_that_was_loaded_later_is_known_by_its_version() -> None:
    counters = counters_of()
    counters.observe(Observed("new", None, Timing(), 1, 1))
    assert counters.by_model() == {"new": Totals(succeeded=1)}


def test_what_a_version_did_counts_for_its_model_when_it_is_gone() -> None:
    counters = counters_of("robot")
    for version in (1, 2):
        counters.observe(Observed("robot", None, Timing(compute_s=1.0), 1, version))
    counters.forget("robot", 1)
    counters.forget("robot", 7)
    assert counters.by_version("robot") == {2: Totals(succeeded=1, compute_s=1.0)}
    both = Totals(succeeded=2, compute_s=2.0)
    assert (counters.by_model(), counters.totals()) == ({"robot": both}, both)


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
