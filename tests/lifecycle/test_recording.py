"""A recording keeps within its bounds, holds recent requests, and none of their memory."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.lifecycle.recording import Recording


def recording(**bounds: int) -> Recording:
    return Recording(random.Random(1), **bounds)


def numbered(number: int) -> dict[str, Any]:
    return {"x": np.array([number])}


def goldens_of(kept: Recording) -> list[Mapping[str, Any]]:
    return [golden.inputs for golden in kept.goldens(0.0, 0.0, 0.0, 0.0)]


def numbers_of(kept: Recording) -> list[int]:
    return [int(inputs["x"][0]) for inputs in goldens_of(kept)]


def test_requests_are_kept_while_there_is_room() -> None:
    kept = recording(max_requests=5)
    assert all(kept.put(numbered(number)) for number in range(5))
    assert numbers_of(kept) == [0, 1, 2, 3, 4]
    assert (len(kept), kept.bytes) == (5, 5 * 8)


def test_golden_requests_have_the_bounds_that_were_asked_for_and_expect_no_values() -> None:
    kept = recording()
    kept.put(numbered(7))
    (golden,) = kept.goldens(0.1, 0.2, 0.3, 4.0)
    assert (golden.name, golden.expected) == ("recorded-1", None)
    assert (golden.atol, golden.rtol, golden.agreement, golden.latency_factor) == (
        0.1,
        0.2,
        0.3,
        4.0,
    )


def test_what_is_kept_is_a_copy_that_nobody_changes() -> None:
    block = np.arange(10.0)
    kept = recording()
    kept.put({"x": block[2:4], "y": np.asfortranarray(np.ones((2, 3)))})
    block[:] = -1.0
    (inputs,) = goldens_of(kept)
    assert inputs["x"].tolist() == [2.0, 3.0]
    assert inputs["x"].base is None
    assert inputs["y"].flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        inputs["x"][0] = 0.0


@given(
    sizes=st.lists(st.integers(0, 60), max_size=200),
    max_requests=st.integers(1, 8),
    max_bytes=st.integers(0, 100),
    one_in=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_the_bounds_hold_after_every_request(
    sizes: list[int], max_requests: int, max_bytes: int, one_in: int, seed: int
) -> None:
    kept = Recording(random.Random(seed), max_requests, max_bytes, one_in)
    for size in sizes:
        taken = kept.put({"x": np.zeros(size, np.uint8)})
        assert not taken or size <= max_bytes
        assert len(kept) <= max_requests
        actual = sum(inputs["x"].nbytes for inputs in goldens_of(kept))
        assert kept.bytes == actual <= max_bytes


def test_later_requests_take_the_place_of_earlier_ones_and_recent_ones_prevail() -> None:
    kept = recording(max_requests=20, one_in=10)
    taken = sum(kept.put(numbered(number)) for number in range(20_000))
    assert taken == pytest.approx(20_000 / 10, rel=0.1), "one in ten"
    ages = sorted(20_000 - number for number in numbers_of(kept))
    assert len(ages) == 20
    mean_age = sum(ages) / 20
    assert mean_age == pytest.approx(20 * 10, rel=0.6), "ages are exponential, of mean 20 x 10"


def test_a_request_that_is_passed_over_is_not_even_looked_at() -> None:
    kept = recording(max_requests=1, one_in=10**9)
    assert kept.put(numbered(1))
    assert kept.put(numbered(2))
    assert not kept.put({"x": pytest})
    assert numbers_of(kept) == [2]


def test_a_request_larger_than_all_may_be_is_not_kept() -> None:
    kept = recording(max_bytes=16)
    assert kept.put({"x": np.zeros(2)})
    assert not kept.put({"x": np.zeros(3)})
    assert kept.bytes == 16


def test_texts_count_with_their_length() -> None:
    kept = recording(max_bytes=1000)
    assert kept.put({"t": np.array([b"x" * 100, b""], object)})
    assert kept.bytes == 16 + 100 + 2 * 33
    assert not kept.put({"t": np.array([b"x" * 2000], object)})


@pytest.mark.parametrize("value", ["text", 3, [1.0], {"a": 1}, np.array([object()])])
def test_what_is_no_array_of_data_is_not_recorded(value: Any) -> None:
    kept = recording()
    assert not kept.put({"x": np.zeros(2), "y": value})
    assert (len(kept), kept.bytes) == (0, 0)
