"""What a run costs follows from what runs have taken."""

from __future__ import annotations

import random

import pytest

from pelton.batching.cost import RunCost


def fitted(fixed_s: float, slope_s: float, sizes: list[int], noise: float = 0.0) -> RunCost:
    cost, chance = RunCost(), random.Random(7)
    for rows in sizes:
        cost.learn(rows, (fixed_s + slope_s * rows) * (1 + noise * chance.random()))
    return cost


@pytest.mark.parametrize(("fixed_s", "slope_s"), [(0.01, 0.001), (0.001, 0.01), (0.0, 0.004)])
def test_both_parts_are_found(fixed_s: float, slope_s: float) -> None:
    cost = fitted(fixed_s, slope_s, [1, 2, 5, 1, 8] * 30)
    assert cost.slope_s() == pytest.approx(slope_s, rel=0.01)
    assert cost.expected_s(20) == pytest.approx(fixed_s + 20 * slope_s, rel=0.01)
    assert cost.fixed_share() == pytest.approx(fixed_s / (fixed_s + slope_s), abs=0.01)


def test_runs_of_one_size_tell_nothing_of_the_slope() -> None:
    cost = fitted(0.001, 0.01, [4] * 100)
    assert cost.slope_s() == 0.0
    assert cost.expected_s(9) == pytest.approx(0.041)
    assert cost.fixed_share() == 1.0


def test_the_slope_is_known_while_runs_of_several_sizes_are_remembered() -> None:
    assert not RunCost().sizes_differ
    assert not fitted(0.001, 0.01, [4] * 100).sizes_differ
    assert fitted(0.001, 0.01, [4] * 99 + [5]).sizes_differ is False
    assert fitted(0.001, 0.01, [4, 8] * 20).sizes_differ
    assert fitted(0.001, 0.01, [4, 8] * 20 + [4] * 100).sizes_differ
    assert not fitted(0.001, 0.01, [4, 8] * 20 + [4] * 1000).sizes_differ


def test_a_model_that_changes_is_followed() -> None:
    cost = fitted(0.0, 0.01, [1, 2, 3] * 50)
    for rows in [1, 2, 3] * 150:
        cost.learn(rows, 0.05)
    assert cost.fixed_share() > 0.9


def test_noise_does_not_make_it_look_as_if_batches_paid() -> None:
    chance = random.Random(3)
    sizes = [1 + (chance.random() < 0.1) for _ in range(500)]
    assert fitted(0.0005, 0.015, sizes, noise=0.1).fixed_share() < 0.2


def test_before_any_run_a_batch_may_pay() -> None:
    assert RunCost().fixed_share() == 1.0


def test_a_weight_of_one_forgets_all_before() -> None:
    cost = fitted(0.0, 1.0, [1, 2, 3])
    cost.learn(2, 0.5, 1.0)
    assert cost.expected_s(2) == 0.5
