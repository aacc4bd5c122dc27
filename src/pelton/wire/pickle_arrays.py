"""Records of arrays, scalars and dtypes to numpy's own, with every claim checked.

A dtype is made from a short list of element types, never from what the pickle says of its inside:
numpy's own `dtype.__setstate__` believes a forged state and then reads wherever it points. An
array is a read-only view of the bytes that came; its memory is checked against its shape first.
"""

from __future__ import annotations

import re
import sys

import numpy as np

from pelton.tensors import Array, element_count
from pelton.wire.pickle_records import (
    ArrayContent,
    RawDict,
    RawDtype,
    RawLatin1,
    describe,
    quoted,
    refusal,
)

Dtype = np.dtype[np.generic]

MAX_TEXT_CHARS = 2**20
"""Longest element of an array of fixed-size text or bytes."""

_ONE_BYTE = frozenset({"b1", "i1", "u1"})
_MANY_BYTES = frozenset({"i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})
_TIMES = frozenset({"M8", "m8"})
_TEXT = re.compile(r"[SU](0|[1-9][0-9]{0,6})", re.ASCII)
_UNITS = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"})
_MAX_UNIT_COUNT = 2**31 - 1

_PLAIN_TAIL = (-1, -1, 0)
"""Item size, alignment and flags where the type itself tells them."""


def check_code(code: str) -> None:
    """Check what `numpy.dtype` is called with against the list of element types.

    Raises:
        InvalidRequest: it is not of the list; the message names it.
    """
    if code in _ONE_BYTE or code in _MANY_BYTES or code in _TIMES:
        return
    text = _TEXT.fullmatch(code)
    if text is None or int(text[1]) > MAX_TEXT_CHARS:
        raise refusal(f"dtype {quoted(code)} is not allowed; numbers, bool, text and times are")


def numpy_dtype(raw: object) -> Dtype:
    """Make the dtype that a pickled `numpy.dtype` stands for.

    Args:
        raw: what came where a dtype belongs.

    Raises:
        InvalidRequest: it is no dtype, or its state is not the one that numpy writes for it.
    """
    if type(raw) is not RawDtype:
        raise refusal(f"{describe(raw)} in place of a numpy.dtype")
    code = raw.code
    if code in _ONE_BYTE:
        return np.dtype(_byte_order(raw, "|", _PLAIN_TAIL) + code)
    if code in _MANY_BYTES:
        return np.dtype(_byte_order(raw, "<>", _PLAIN_TAIL) + code)
    if code in _TIMES:
        return np.dtype(_byte_order(raw, "<>", _PLAIN_TAIL) + code + _unit(raw))
    chars = int(code[1:])
    if code[0] == "S":
        return np.dtype(_byte_order(raw, "|", (chars, 1, 0)) + code)
    return np.dtype(_byte_order(raw, "<>", (4 * chars, 4, 8)) + code)


def _byte_order(raw: RawDtype, allowed: str, tail: tuple[int, int, int]) -> str:
    """Check a dtype's state against the one that numpy writes; return its byte order."""
    state = raw.state or ()
    version, count = (4, 9) if raw.code in _TIMES else (3, 8)
    order = state[1] if len(state) == count else None
    if type(order) is not str or len(order) != 1 or order not in allowed:
        raise refusal(f"{describe(raw)} with a state that numpy does not write")
    if state[:8] != (version, order, None, None, None, *tail):
        raise refusal(f"{describe(raw)} with a state that numpy does not write")
    return order


def _unit(raw: RawDtype) -> str:
    """Return a time's unit as numpy spells it in a dtype's name, such as `[25us]`."""
    match (raw.state or (None,))[-1]:
        case (None | RawDict(pairs=[]), (memoryview() | RawLatin1() as unit, int(count), 1, 1)):
            name = unit.text if isinstance(unit, RawLatin1) else str(unit[:8], "latin1")
            if name == "generic" and count == 1:
                return ""
            if name in _UNITS and 1 <= count <= _MAX_UNIT_COUNT:
                return f"[{count:d}{name}]"
    raise refusal(f"{describe(raw)} with a unit that numpy does not write")


def numpy_array(content: ArrayContent, data: memoryview | bytes) -> Array:
    """Make an array that views `data`; takes the same time whatever its size.

    Args:
        content: what the pickle says of the array.
        data: its memory.

    Returns:
        A read-only array.

    Raises:
        InvalidRequest: dtype, shape or order is not sound, or shape and dtype need another number
            of bytes than came.
    """
    dtype = numpy_dtype(content.dtype)
    shape = content.shape
    if not isinstance(shape, tuple):
        raise refusal(f"an array's shape is {describe(shape)} in place of a tuple")
    count = element_count(shape, "pickle: an array")
    if count and not dtype.itemsize:
        # numpy would count such elements modulo 2**64, and each would still take time to visit.
        raise refusal(f"an array of {dtype}, whose elements have no bytes, is not allowed")
    needed = count * dtype.itemsize
    if needed != len(data):
        told = needed if needed < 2**63 else "more than 2**63"
        raise refusal(f"an array's shape and {dtype} need {told} bytes, but {len(data)} came")
    try:
        return _view(shape, dtype, data, content)
    except ValueError:
        raise refusal("an array's shape is larger than any memory") from None


def _view(
    shape: tuple[int, ...], dtype: Dtype, data: memoryview | bytes, content: ArrayContent
) -> Array:
    axes = content.axes
    match content.order:
        case "C" | "F" as order if axes is None:
            return np.ndarray(shape, dtype, data, order=order)
        case "K" if type(axes) is tuple and _is_permutation(axes, len(shape)):
            return np.ndarray(shape, dtype, data).transpose(axes)
    raise refusal("an array's memory is neither in C nor in F order, nor a permutation of its axes")


def _is_permutation(axes: tuple[object, ...], rank: int) -> bool:
    return (
        len(axes) == rank
        and all(type(axis) is int for axis in axes)
        and set(axes) == set(range(rank))
    )


def numpy_scalar(dtype: Dtype, data: memoryview | bytes) -> np.generic:
    """Make the numpy scalar that `data` holds.

    Raises:
        InvalidRequest: the dtype needs another number of bytes than came.
    """
    if len(data) != dtype.itemsize:
        raise refusal(f"a scalar of {dtype} needs {dtype.itemsize} bytes, but {len(data)} came")
    check_elements(dtype, data)
    scalar: np.generic = np.ndarray((1,), dtype, data)[0]
    return scalar


def check_elements(dtype: Dtype, data: memoryview | bytes) -> None:
    """Check memory of which not every bit pattern is an element: bool and text.

    Raises:
        InvalidRequest: a bool is neither 0 nor 1, or text holds what is no Unicode character.
    """
    if not len(data):
        return
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max() > 1:
        raise refusal("a bool is neither 0 nor 1")
    if dtype.kind == "U":
        points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        is_surrogate = (points >= 0xD800) & (points <= 0xDFFF)
        if points.max() > sys.maxunicode or is_surrogate.any():
            raise refusal("an array of text holds what is no Unicode character")
