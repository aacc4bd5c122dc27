from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.bfloat16 import narrow, widen


def bits(*numbers: float) -> list[int]:
    return narrow(np.array(numbers, np.float32)).tolist()


def test_every_bfloat16_survives_the_way_through_float32() -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    wide = widen(halves)
    expected = halves.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(wide, expected, strict=True)
    again = narrow(wide)
    is_nan = np.isnan(wide)
    np.testing.assert_array_equal(again[~is_nan], halves[~is_nan], strict=True)
    # A signalling NaN becomes quiet; nothing else of it changes.
    np.testing.assert_array_equal(again[is_nan], halves[is_nan] | 0x40, strict=True)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_rounding_is_that_of_an_independent_implementation(numbers: list[float]) -> None:
    wide = np.array(numbers, np.float32)
    expected = wide.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(narrow(wide), expected, strict=True)


def test_ties_go_to_the_even_neighbour_and_the_largest_overflow() -> None:
    assert bits(1 + 2**-8, 1 + 3 * 2**-8) == [0x3F80, 0x3F82]
    assert bits(np.finfo(np.float32).max, -np.finfo(np.float32).max) == [0x7F80, 0xFF80]


@pytest.mark.parametrize("pattern", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001])
def test_nan_stays_nan_with_its_sign(pattern: int) -> None:
    (found,) = narrow(np.array([pattern], np.uint32).view(np.float32)).tolist()
    assert found & 0x7F80 == 0x7F80
    assert found & 0x7F != 0
    assert found >> 15 == pattern >> 31


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)])
def test_shapes_stay(shape: tuple[int, ...]) -> None:
    halves = np.full(shape, 0xFFFF, np.uint16)
    assert widen(halves).shape == shape
    assert narrow(widen(halves)).shape == shape
    np.testing.assert_array_equal(narrow(np.ones(shape, np.float32).T).shape, shape[::-1])
