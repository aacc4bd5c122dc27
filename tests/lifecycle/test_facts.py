"""What is usual for a version, and which outputs are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pelton.errors import Code
from pelton.lifecycle.facts import (
    LEAST_LATENCIES,
    SMALL,
    Baseline,
    Fact,
    RecentFacts,
    any_nonfinite,
)


def test_a_version_that_nobody_asked_has_no_baseline() -> None:
    assert RecentFacts().baseline() == Baseline()


def test_a_baseline_of_good_and_bad_requests() -> None:
    facts = RecentFacts()
    for number in range(100):
        facts.add(Fact(None, (number + 1) / 1000))
    for code in (Code.MODEL_FAILED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INVALID_INPUT):
        facts.add(Fact(code, 99.0))
    facts.add(Fact(None, 0.05, nonfinite=True))
    baseline = facts.baseline()
    assert (baseline.requests, baseline.nonfinite) == (105, 1)
    assert baseline.failed_share == pytest.approx(3 / 105), "a wrong request is not the version's"
    assert baseline.median_s == pytest.approx(0.05, abs=0.001)
    assert baseline.p95_s == pytest.approx(0.095, abs=0.001)


def test_too_few_latencies_tell_no_percentile() -> None:
    facts = RecentFacts()
    for _ in range(LEAST_LATENCIES - 1):
        facts.add(Fact(None, 0.001))
    assert facts.baseline() == Baseline(LEAST_LATENCIES - 1, 0.0, 0, None, None)
    facts.add(Fact(None, 0.001))
    assert facts.baseline().p95_s == pytest.approx(0.001)


def test_only_the_latest_are_remembered() -> None:
    facts = RecentFacts(remembered=50)
    for code in [Code.MODEL_FAILED] * 50 + [None] * 40:
        facts.add(Fact(code, 0.001))
    assert facts.baseline().failed_share == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 5), (100, 50)], ids=["small", "large"])
def test_an_element_that_is_no_number_is_found(
    bad: float, dtype: str, shape: tuple[int, int]
) -> None:
    assert (np.prod(shape) > SMALL) == (shape == (100, 50))
    values = np.ones(shape, dtype)
    assert not any_nonfinite({"y": values})
    values[1, 2] = bad
    assert any_nonfinite({"x": np.ones(2), "y": values})


def test_opposite_infinities_do_not_hide_each_other() -> None:
    assert any_nonfinite({"y": np.array([np.inf, -np.inf])})


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_sum_that_overflows_is_no_infinity(dtype: str) -> None:
    assert not any_nonfinite({"y": np.full(9, np.finfo(dtype).max, dtype)})


def test_what_is_no_float_array_is_never_infinite() -> None:
    outputs = {
        "i": np.array([2**62]),
        "t": np.array([b"nan"], object),
        "o": float("nan"),
        "e": np.ones((0, 3)),
    }
    assert not any_nonfinite(outputs)


def test_deaths_are_remembered_as_long_as_requests() -> None:
    facts = RecentFacts(remembered=50)
    facts.died()
    assert facts.baseline() == Baseline(deaths=1)
    for _ in range(50):
        facts.add(Fact(None, 0.001))
    facts.died()
    assert facts.baseline().deaths == 2
    facts.add(Fact(None, 0.001))
    assert facts.baseline().deaths == 1
