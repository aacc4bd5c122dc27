"""Values that have a form, of every kind, and what it means that two are the same to the last bit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = ["|b1", "|u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", "<c16", "|S3", "<U2"]

ARRAYS = hnp.arrays(
    st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
)
BYTES_ARRAYS = st.lists(st.binary(max_size=4), max_size=4).map(
    lambda items: np.array([*items, None], object)[:-1]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
LEAVES = (
    SCALARS
    | st.binary(max_size=5).map(bytearray)
    | ARRAYS
    | BYTES_ARRAYS
    | hnp.arrays(st.sampled_from(["<f4", ">i8", "|b1", "<f8"]), ()).map(lambda array: array[()])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(SCALARS, inner, max_size=3)
    ),
    max_leaves=8,
)


def bits(value: Any) -> Any:
    """Return something that is equal for values that are the same in type, order and every bit."""
    if isinstance(value, np.ndarray | np.generic):
        elements = value.tolist() if value.dtype.hasobject else value.tobytes()
        return (type(value), value.dtype.str, value.shape, elements)
    if isinstance(value, list | tuple):
        return (type(value), [bits(each) for each in value])
    if isinstance(value, dict):
        return (dict, [(bits(key), bits(each)) for key, each in value.items()])
    if isinstance(value, float):
        return (float, struct.pack("<d", value))
    return (type(value), value)
