"""Who takes part and who gets which arm: pinned, uniform, independent, steady under a ramp."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.routing.assignment import RANGE, Assignment, bound_of, draw, prefix_of
from pelton.routing.policy import Arm, Split

UNITS = [f"robot-{number}" for number in range(20_000)]


def assignment(*weights: float, salt: str = "digits", enrolled: float = 1.0) -> Assignment:
    arms = tuple(Arm(number, weight) for number, weight in enumerate(weights, 1))
    return Assignment(Split(arms, salt, enrolled))


def chi_square(counts: Counter[int], shares: list[float]) -> float:
    whole = counts.total()
    return sum((counts[one] - whole * p) ** 2 / (whole * p) for one, p in enumerate(shares))


# What must never change: units would change arms with a release


@pytest.mark.parametrize(
    ("salt", "purpose", "unit", "drawn"),
    [
        ("digits", "enrolled", "robot-7", 0xB9F155F07D94B041),
        ("digits", "arm", "robot-7", 0xDCD10E1C96C4B683),
        ("digits", "arm", "用户 7", 0x451E063F78093E00),
        ("digits", "arm", "", 0xD9DA3FFDEFBFD014),
        ("digits", "shadow", "0a1b2c3d-1f", 0x2EB1C6A76FDF9AEE),
        ("spring-2", "arm", "robot-7", 0xBC23E9A14996A823),
    ],
)
def test_draws_are_those_of_every_release(salt, purpose, unit, drawn) -> None:
    assert draw(prefix_of(salt, purpose), unit) == drawn


def test_assignments_are_those_of_every_release() -> None:
    ours = assignment(3, 1, enrolled=0.5)
    arms = "".join(str(ours.arm(unit)) for unit in UNITS[:40])
    enrolled = "".join(str(int(ours.enrolled(unit))) for unit in UNITS[:40])
    assert arms == "0000001110010001010100000100111000000000"
    assert enrolled == "0000101010001100001010100111000100101110"


# Chance. The bounds are the 0.999 quantiles of chi-square: 10.83 (df 1), 16.27 (3), 37.70 (15).


@pytest.mark.parametrize("salt", ["digits", "digits-2", "june", "a"])
@pytest.mark.parametrize(
    ("weights", "bound"),
    [((1, 1), 10.83), ((95, 5), 10.83), ((0.5, 0.2, 0.2, 0.1), 16.27), ((1,) * 16, 37.70)],
)
def test_weights_are_kept(salt, weights, bound) -> None:
    ours = assignment(*weights, salt=salt)
    counts = Counter(ours.arm(unit) for unit in UNITS)
    assert 0 < chi_square(counts, [weight / sum(weights) for weight in weights]) < bound


@pytest.mark.parametrize("c", [0.02, 0.1, 0.5])
def test_enrolment_is_kept_and_independent_of_the_arm(c) -> None:
    ours = assignment(7, 3, enrolled=c)
    cells = Counter(2 * ours.enrolled(unit) + ours.arm(unit) for unit in UNITS)
    assert chi_square(cells, [(1 - c) * 0.7, (1 - c) * 0.3, c * 0.7, c * 0.3]) < 16.27


def test_salts_are_independent() -> None:
    june, july = assignment(1, 1, salt="june"), assignment(1, 1, salt="july")
    cells = Counter(2 * june.arm(unit) + july.arm(unit) for unit in UNITS)
    assert chi_square(cells, [0.25] * 4) < 16.27


def test_ids_that_follow_each_other_spread_like_any_others() -> None:
    ours = assignment(1, 1)
    arms = [ours.arm(f"0a1b2c3d-{count:x}") for count in range(1, 20_001)]
    pairs = Counter(2 * one + other for one, other in zip(arms[::2], arms[1::2], strict=True))
    assert chi_square(pairs, [0.25] * 4) < 16.27


# Ramps

shares = st.floats(0, 1)
weight_lists = st.lists(st.floats(0, 1e9), min_size=1, max_size=16).filter(any)


@given(st.text(), shares, shares, weight_lists)
def test_enrolling_more_loses_nobody_and_moves_nobody(unit, one, other, weights) -> None:
    few = assignment(*weights, enrolled=min(one, other))
    many = assignment(*weights, enrolled=max(one, other))
    assert few.arm(unit) == many.arm(unit)
    assert many.enrolled(unit) or not few.enrolled(unit)


@given(st.text())
def test_nobody_and_everybody(unit) -> None:
    assert not assignment(1, 1, enrolled=0.0).enrolled(unit)
    assert assignment(1, 1, enrolled=1.0).enrolled(unit)


def test_ramping_weights_does_move_units() -> None:  # which is why enrolment is ramped
    before, after = assignment(95, 5), assignment(50, 50)
    assert any(before.arm(unit) != after.arm(unit) for unit in UNITS[:100])


# Bounds


@given(st.text(), weight_lists)
def test_an_arm_is_always_found_and_never_one_without_weight(unit, weights) -> None:
    ours = assignment(*weights)
    arm = ours.arm(unit)
    assert weights[arm] > 0
    assert ours.probabilities[arm] > 0


@given(weight_lists)
def test_probabilities_are_the_weights(weights) -> None:
    found = assignment(*weights).probabilities
    assert found == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-15)


def test_round_weights_have_round_probabilities() -> None:
    assert assignment(95, 5).probabilities == (0.95, 0.05)
    assert assignment(3, 0, 1).probabilities == (0.75, 0.0, 0.25)


@pytest.mark.parametrize("drawn", [0, 1, RANGE // 2 - 1, RANGE // 2, RANGE - 1])
def test_the_ends_of_the_range_belong_to_an_arm(monkeypatch, drawn) -> None:
    monkeypatch.setattr("pelton.routing.assignment.draw", lambda prefix, unit: drawn)
    assert assignment(0, 1, 1, 0).arm("x") == 1 + (drawn >= RANGE // 2)
    assert assignment(1, enrolled=0.5).enrolled("x") == (drawn < RANGE // 2)


@given(shares)
def test_a_bound_is_exact(share) -> None:
    bound = bound_of(share)
    assert Fraction(bound - 1, RANGE) < Fraction(share) <= Fraction(bound, RANGE) or share == 0


@given(st.text(alphabet="ab.-", min_size=1), st.text(alphabet="ab.-", min_size=1))
def test_no_two_purposes_share_a_prefix(one, other) -> None:
    purposes = ("enrolled", "arm", "shadow")
    found = {prefix_of(salt, purpose) for salt in {one, other} for purpose in purposes}
    assert len(found) == 3 * len({one, other})
