"""Whether two values are the same in everything that a pickle carries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NUMPY_1 = np.__version__.startswith("1.")
"""Whether the numpy that runs the tests is a 1.x, which does not read the spelling of 2.x."""


def assert_alike(left: Any, right: Any) -> None:
    """Compare types, values, dtypes with their byte order, shapes, and bit patterns of numbers."""
    assert type(left) is type(right), (left, right)
    if isinstance(left, np.ndarray):
        _assert_same_array(left, right)
    elif isinstance(left, np.generic):
        assert left.dtype == right.dtype, (left, right)
        assert left.tobytes() == right.tobytes(), (left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right), (left, right)
        for ours, theirs in zip(left, right, strict=True):
            assert type(ours) is type(theirs), (ours, theirs)
            assert_alike(left[ours], right[theirs])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), (left, right)
        for ours, theirs in zip(left, right, strict=True):
            assert_alike(ours, theirs)
    elif isinstance(left, float):
        assert (math.isnan(left) and math.isnan(right)) or left.hex() == right.hex()
    else:
        assert left == right


def _assert_same_array(left: np.ndarray, right: np.ndarray) -> None:
    assert left.dtype == right.dtype, (left.dtype, right.dtype)
    assert left.dtype.byteorder == right.dtype.byteorder, (left.dtype, right.dtype)
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes(), (left, right)
