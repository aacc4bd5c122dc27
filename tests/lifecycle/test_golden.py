"""What is found wrong with the answer to a golden request, in which order, and in which words."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from pelton.lifecycle.gates import Gate
from pelton.lifecycle.golden import Answers, Verdict, judge, rows_that_agree
from pelton.specs import Golden

F4 = np.float32


def golden(**fields: Any) -> Golden:
    plan: dict[str, Any] = {
        "name": "g",
        "inputs": {"x": np.zeros(2, F4)},
        "expected": None,
        "atol": 1e-3,
        "rtol": 0.0,
        "agreement": 0.0,
        "latency_factor": 0.0,
    }
    return Golden(**(plan | fields))


def y(*values: float, dtype: Any = F4) -> dict[str, Any]:
    return {"y": np.array(values, dtype)}


def verdict(request: Golden, new: dict[str, Any], running: dict[str, Any] | None = None) -> Verdict:
    return judge(request, Answers(new), None if running is None else Answers(running))


def test_a_right_answer_passes() -> None:
    told = verdict(golden(expected=y(1.0, 2.0)), y(1.0005, 2.0), y(9.0, 9.0))
    assert told == Verdict(
        True, "golden request 'g' was answered as it should", {"golden": "g"}, Gate.GOLDEN
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("expected", [None, y(1.0, 2.0)])
def test_what_is_not_finite_is_refused_before_anything_else(
    bad: float, expected: dict[str, Any] | None
) -> None:
    told = verdict(golden(expected=expected), {"y": np.array([[1.0, bad]])}, y(1.0))
    assert not told.passed
    assert told.sentence == (
        "golden request 'g': 1 of 2 elements of output 'y' are NaN or infinite"
    )
    assert told.numbers == {"golden": "g", "nonfinite_elements": 1}


def test_the_first_version_of_all_must_be_finite_as_well() -> None:
    assert not verdict(golden(), y(np.nan)).passed
    assert verdict(golden(), y(1.0)).passed


def test_an_infinity_that_the_reference_has_too_is_meant() -> None:
    mask = y(-np.inf, 1.0)
    assert verdict(golden(expected=mask), mask).passed
    assert verdict(golden(), mask, mask).passed
    assert not verdict(golden(expected=mask), y(1.0, -np.inf)).passed
    assert not verdict(golden(), y(1.0, -np.inf), mask).passed


def test_an_infinity_of_an_output_of_which_nothing_is_expected_may_be_usual() -> None:
    mask = {"mask": np.array([-np.inf])}
    assert verdict(golden(expected=y(1.0)), y(1.0) | mask, y(1.0) | mask).passed
    assert not verdict(golden(expected=y(1.0)), y(1.0) | mask, y(1.0)).passed


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ([1, [2, "a"]], [1, [2, "b"]]),
        ({"k": [np.array([1, 2])]}, {"k": [np.array([1, 3])]}),
        ({"k": 1}, {"l": 1}),
        ((1, 2), (1, 2, 3)),
        ([1], [1.0]),
    ],
)
def test_values_of_object_models_are_compared_whole(value: Any, other: Any) -> None:
    request = golden(agreement=1.0)
    assert verdict(request, {"y": value}, {"y": copy.deepcopy(value)}).passed
    told = verdict(request, {"y": other}, {"y": value})
    assert told.numbers["agreement"] == 0.0


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({"z": np.zeros(2, F4)}, "it gives no output 'y', which is among {whose}"),
        (y(1.0, 2.0, 3.0), "output 'y' is float32[3], and float32[2] among {whose}"),
        (y(1.0, 2.0, dtype="f8"), "output 'y' is float64[2], and float32[2] among {whose}"),
        ({"y": [1.0, 2.0]}, "output 'y' is list, and float32[2] among {whose}"),
    ],
)
def test_another_name_shape_or_dtype_is_refused(new: dict[str, Any], says: str) -> None:
    for told, whose in (
        (verdict(golden(expected=y(1.0, 2.0)), new), "the expected outputs"),
        (verdict(golden(), new, y(1.0, 2.0)), "the running version's"),
    ):
        assert not told.passed
        assert told.sentence == "golden request 'g': " + says.format(whose=whose)


def test_an_output_more_is_refused_by_the_running_version_not_by_what_is_expected() -> None:
    more = y(1.0) | {"z": np.zeros(1, F4)}
    assert verdict(golden(expected=y(1.0)), more, y(1.0)).passed
    told = verdict(golden(), more, y(1.0))
    assert told.sentence.endswith("it gives the output 'z', which the running version does not")


def test_values_out_of_tolerance_are_counted_with_the_largest_difference() -> None:
    told = verdict(golden(expected=y(1.0, 2.0, 3.0)), y(1.0, 2.5, 3.002))
    assert not told.passed
    assert told.sentence == (
        "golden request 'g': 2 of 3 elements of output 'y' differ from the expected ones by more "
        "than atol 0.001 and rtol 0 allow, by up to 0.5"
    )
    assert told.numbers["elements_off"] == 2
    assert told.numbers["largest_difference"] == pytest.approx(0.5)


def test_the_relative_tolerance_is_of_the_expected_value() -> None:
    request = golden(expected=y(100.0), atol=0.0, rtol=0.01)
    assert verdict(request, y(100.9)).passed
    assert not verdict(request, y(101.1)).passed


@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "O"])
def test_values_of_other_types_are_compared_too(dtype: str) -> None:
    right = np.array([b"a", b"b"], object) if dtype == "O" else np.array([0, 1], dtype)
    wrong = right[::-1].copy()
    assert verdict(golden(expected={"y": right}), {"y": right.copy()}).passed
    told = verdict(golden(expected={"y": right}), {"y": wrong})
    assert "2 of 2 elements of output 'y' differ from the expected ones" in told.sentence


def test_integers_of_every_size_have_a_difference() -> None:
    told = verdict(golden(expected=y(255, dtype="u1")), y(1, dtype="u1"))
    assert told.numbers["largest_difference"] == 254.0


def test_values_need_not_be_those_of_the_running_version_unless_asked() -> None:
    assert verdict(golden(), y(5.0), y(1.0)).passed
    assert not verdict(golden(agreement=1.0), y(5.0), y(1.0)).passed


SCORES = {"y": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], F4)}
ONE_OTHER = {"y": np.array([[0.7, 0.3], [0.4, 0.6], [0.6, 0.4], [0.7, 0.3]], F4)}


@pytest.mark.parametrize(("agreement", "passes"), [(0.75, True), (0.76, False)])
def test_rows_of_scores_agree_by_their_largest(agreement: float, passes: bool) -> None:
    told = verdict(golden(agreement=agreement), ONE_OTHER, SCORES)
    assert told.passed is passes
    assert told.numbers["agreement"] == 0.75
    if not passes:
        assert told.sentence == (
            "golden request 'g': output 'y' agrees with the running version's in 75 % of 4 rows; "
            "at least 76 % are asked for"
        )


def test_both_expected_values_and_agreement_may_be_asked_for() -> None:
    request = golden(expected=ONE_OTHER, agreement=0.9)
    assert not verdict(request, ONE_OTHER, SCORES).passed
    assert verdict(request, ONE_OTHER, None).passed, "the first version has none to agree with"


def test_an_output_that_is_to_agree_must_be_there() -> None:
    request = golden(expected=y(1.0), agreement=1.0)
    told = verdict(request, y(1.0), y(1.0) | {"z": np.zeros(2, F4)})
    assert told.sentence.endswith("it gives no output 'z', which is among the running version's")


def test_other_rows_agree_within_the_tolerance() -> None:
    request = golden(atol=0.1)
    new, old = np.array([1.0, 2.0, 3.0], F4), np.array([1.05, 2.5, 3.0], F4)
    assert rows_that_agree(new, old, request).tolist() == [True, False, True]
    boxes = np.zeros((2, 3, 4), F4)
    moved = boxes.copy()
    moved[1, 2, 3] = 0.2
    assert rows_that_agree(moved, boxes, request).tolist() == [True, False]
    column = np.array([[1.0], [2.0]], F4)
    assert rows_that_agree(column, column + 1.0, request).tolist() == [False, False]
    assert rows_that_agree(np.array(3), np.array(3), request).tolist() == [True]
    assert rows_that_agree("text", "text", request).tolist() == [True]


def test_scores_that_tie_agree_if_they_are_close() -> None:
    tied, other = np.array([[0.5, 0.5]], F4), np.array([[0.4999, 0.5001]], F4)
    assert rows_that_agree(tied, other, golden()).tolist() == [True]


def test_no_rows_agree_wholly() -> None:
    nothing = {"y": np.zeros((0, 2), F4)}
    assert verdict(golden(agreement=1.0), nothing, nothing).passed


@pytest.mark.parametrize(
    ("new_s", "factor", "passes"),
    [
        ([0.019, 0.0199, 0.9], 2.0, True),  # the median counts, not an outlier
        ([0.019, 0.0201, 0.021], 2.0, False),
        ([0.019, 0.0201, 0.021], 0.0, True),  # not asked for
        ([0.0104, 0.0104, 0.0104], 1.0, True),  # half a millisecond is no difference
        ([0.0106, 0.0106, 0.0106], 1.0, False),
        ([], 1.0, True),
    ],
)
def test_the_median_latency_is_held_against_the_running_versions(
    new_s: list[float], factor: float, passes: bool
) -> None:
    answers = Answers(y(1.0), new_s), Answers(y(1.0), [0.01, 0.01, 0.5])
    assert judge(golden(latency_factor=factor), *answers).passed is passes


def test_a_slow_version_is_told_in_milliseconds() -> None:
    told = judge(golden(latency_factor=2.0), Answers(y(1.0), [0.05]), Answers(y(1.0), [0.01]))
    assert told.sentence == (
        "golden request 'g': it takes 50 ms (median of 1 runs), the running version 10 ms; "
        "2 times as long is allowed"
    )
    assert told.numbers["latency_ms"] == pytest.approx(50.0)


def test_long_names_are_cut() -> None:
    told = verdict(golden(name="g" * 500), {"y" * 500: np.array([np.nan])})
    assert len(told.sentence) < 300
