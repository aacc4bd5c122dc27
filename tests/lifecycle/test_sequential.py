"""The test of a share: few false alarms, however often it is looked at, and soon where due."""

from __future__ import annotations

import math
import random

import pytest

from pelton.lifecycle.sequential import LEAST_BAD, ShareTest, rates_above


def first_alarm(test: ShareTest, stream: list[bool]) -> int | None:
    """Return after how many requests there was an alarm; None if there was none."""
    return next((count for count, bad in enumerate(stream, 1) if test.add(bad)), None)


def coins(chance: random.Random, share: float, count: int) -> list[bool]:
    return [chance.random() < share for _ in range(count)]


@pytest.mark.parametrize("bound", [0.003, 0.02, 0.3])
def test_false_alarms_are_as_rare_as_stated_though_looked_at_after_each_request(
    bound: float,
) -> None:
    chance = random.Random(11)
    streams, false_alarm = 400, 0.1
    alarms = sum(
        first_alarm(ShareTest(bound, false_alarm, 500), coins(chance, bound, 1000)) is not None
        for _ in range(streams)
    )
    deviation = math.sqrt(false_alarm * (1 - false_alarm) * streams)
    assert alarms <= false_alarm * streams + 3 * deviation


def test_five_times_the_bound_is_found_soon() -> None:
    chance = random.Random(12)
    alarms = [
        first_alarm(ShareTest(0.02, 0.001, 1000), coins(chance, 0.1, 1000)) for _ in range(50)
    ]
    found = [alarm for alarm in alarms if alarm is not None]
    assert len(found) == 50
    assert sum(found) / 50 <= 150, "five times the bound is found within 150 requests on average"


def test_the_evidence_begins_at_one_and_is_expected_to_stay_there_to_the_horizon_and_on() -> None:
    """By counting all streams of eight requests, with a horizon of five."""
    bound, expected = 0.25, [0.0] * 9
    for number in range(2**8):
        test, weight = ShareTest(bound, 1e-12, 5), 1.0
        expected[0] += test.evidence / 2**8
        for place in range(8):
            bad = bool(number >> place & 1)
            test.add(bad)
            weight *= bound if bad else 1.0 - bound
            # Streams that share a beginning are counted once for each of their ends.
            expected[place + 1] += test.evidence * weight / 2 ** (7 - place)
    assert expected == pytest.approx([1.0] * 9)


@pytest.mark.parametrize(("good_before", "within"), [(0, 3), (10, 5), (100, 5), (1000, 5)])
def test_what_always_fails_is_found_as_soon_after_many_good_answers(
    good_before: int, within: int
) -> None:
    test = ShareTest(0.02, 0.0005, 10_000)
    assert first_alarm(test, [False] * good_before) is None
    assert first_alarm(test, [True] * 100) == within


def test_one_bad_request_is_no_alarm_however_small_the_bound() -> None:
    test = ShareTest(1e-9, 0.1, 10)
    assert not test.add(True)
    assert test.evidence > 1e6
    assert (test.add(True), test.bad) == (True, LEAST_BAD)


def test_an_alarm_stays() -> None:
    test = ShareTest(0.02, 0.001, 100)
    assert first_alarm(test, [True] * 10) is not None
    assert all(test.add(False) for _ in range(1000))


@pytest.mark.parametrize("bound", [1e-6, 0.01, 0.5, 0.94, 0.99])
def test_the_grid_lies_between_the_bound_and_one(bound: float) -> None:
    grid = rates_above(bound)
    assert bound < grid[0] < grid[-1] < 1.0
    assert grid == sorted(set(grid))


@pytest.mark.parametrize(
    ("bound", "false_alarm", "horizon"),
    [(0.0, 0.1, 1), (1.0, 0.1, 1), (0.1, 0.0, 1), (0.1, 0.1, 0)],
)
def test_a_test_of_nothing_is_refused(bound: float, false_alarm: float, horizon: int) -> None:
    with pytest.raises(ValueError, match="no test with"):
        ShareTest(bound, false_alarm, horizon)
