"""Choices as exposures, and the memory that passes each on once."""

from __future__ import annotations

import pytest

from pelton.records import Exposure
from pelton.routing.choice import Choice
from pelton.routing.exposure import FirstExposures, exposure_of
from routing.asked import request, split, table

NOW_S = 1_750_000_000.0


def chosen(unit: str = "ann", **other) -> Choice:
    return Choice("digits", "digits", 2, "2", 0.05, True, unit=unit, by_key=True)._replace(**other)


def test_a_choice_of_a_split_is_kept_with_all_that_counts() -> None:
    choice = Choice("digits", "big", 1, "2", 0.05, True, False, "ann", True, 3, "july")
    assert exposure_of(choice, NOW_S) == Exposure(
        "digits", "ann", True, "2", 0.05, True, False, NOW_S, "july"
    )


def test_routes_that_assign_nobody_leave_no_exposure() -> None:
    assert exposure_of(table().choose(request(), "ann"), NOW_S) is None
    assert exposure_of(table(split(1, 1)).choose(request(log_id="")), NOW_S) is None


def test_callers_who_name_the_version_of_a_split_are_kept_apart() -> None:
    exposure = exposure_of(table(split(1, 1)).choose(request(version="2"), "ann"), NOW_S)
    assert exposure == Exposure("digits", "ann", True, "2", 1.0, False, True, NOW_S, "digits")


def test_a_unit_is_passed_on_once() -> None:
    memo = FirstExposures()
    assert memo.first(chosen(), NOW_S) == exposure_of(chosen(), NOW_S)
    assert memo.first(chosen(), NOW_S + 1) is None
    assert memo.first(chosen("bob"), NOW_S) is not None
    assert memo.first(chosen(route="other"), NOW_S) is not None


@pytest.mark.parametrize(
    "other", [{"arm": "1"}, {"enrolled": False}, {"forced": True}, {"salt": "july"}]
)
def test_another_arm_or_experiment_or_being_enrolled_is_passed_on(other) -> None:
    memo = FirstExposures()
    for choice in (chosen(), chosen(**other)):
        assert memo.first(choice, NOW_S) is not None
        assert memo.first(choice, NOW_S) is None


def test_request_ids_are_passed_on_and_not_remembered() -> None:
    memo = FirstExposures(max_units=1)
    assert memo.first(chosen(), NOW_S) is not None
    for _ in range(5):
        assert memo.first(chosen("r-1", by_key=False), NOW_S) is not None
    assert memo.first(chosen(), NOW_S) is None


def test_the_memory_is_bounded_and_forgets_what_came_longest_ago() -> None:
    memo = FirstExposures(max_units=2)
    for unit in "abc":
        assert memo.first(chosen(unit), NOW_S) is not None
    assert memo.first(chosen("a"), NOW_S) is None  # from the old set, and young again
    for unit in "de":
        assert memo.first(chosen(unit), NOW_S) is not None
    assert memo.first(chosen("a"), NOW_S) is None
    assert memo.first(chosen("b"), NOW_S) is not None  # forgotten


def test_what_is_in_use_survives_the_moment_at_which_the_sets_change() -> None:
    memo = FirstExposures(max_units=1)
    memo.first(chosen("a"), NOW_S)
    memo.first(chosen("b"), NOW_S)
    assert memo.first(chosen("a"), NOW_S) is None
