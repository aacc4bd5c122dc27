"""Bytes as arrays and arrays as bytes, without a copy wherever there is a way."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from pelton.errors import InvalidRequest
from pelton.tensors import Array

_LITTLE_ENDIAN = sys.byteorder == "little"

COPIED_BYTES = 4096
"""Up to so many, a copy costs less than a view."""

Buffer = bytes | memoryview
"""A piece of a message; pieces are written one after the other. A view is one of bytes."""


def array_of(
    raw: memoryview,
    dtype: np.dtype[np.generic],
    shape: Sequence[int],
    what: str,
    start: int = 0,
) -> Array:
    """View bytes as a read-only array.

    A view keeps `raw` alive. Bytes that do not lie at a multiple of the element's size are
    copied once, to where they do: models run many times slower on unaligned arrays, or fail.

    Args:
        raw: as many bytes as shape and dtype need, or more; the caller has checked that.
        dtype: of fixed size.
        shape: dimensions, none negative.
        what: how the error shall name the tensor.
        start: where in `raw` the first element is.

    Raises:
        InvalidRequest: the tensor is empty, but its other dimensions are beyond any memory.
    """
    try:
        array: Array = np.ndarray(shape, dtype, raw, start)
    except ValueError as error:
        raise _too_large(what) from error
    flags = array.flags
    if not flags.aligned:
        array = array.copy()
        flags = array.flags
    if flags.writeable:
        array.setflags(write=False)
    return array


def shaped(array: Array, shape: Sequence[int], what: str) -> Array:
    """Give an array of as many elements a shape that came from outside.

    Raises:
        InvalidRequest: the array is empty, but its other dimensions are beyond any memory.
    """
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise _too_large(what) from error


def _too_large(what: str) -> InvalidRequest:
    return InvalidRequest(f"{what}: its dimensions are too large")


def bytes_of(array: Array) -> memoryview:
    """Return the elements as little-endian bytes in row-major order.

    Args:
        array: any layout and byte order, of fixed-size elements.

    Returns:
        A view of the array where it lies that way already, else of one copy.
    """
    if array.dtype.isnative is _LITTLE_ENDIAN and array.flags.c_contiguous and array.size:
        return array.data.cast("B")
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data
