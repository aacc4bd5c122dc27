"""Nested Python lists as typed arrays: what JSON and MessagePack have instead of tensors.

No element is ever changed to fit, save that a number is rounded to the precision of a float
type. `true` is no number, 1.5 is no integer, and 300 is no UINT8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pelton.errors import InvalidRequest
from pelton.tensors import Array, Datatype

_NAMED_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def flatten(data: Sequence[Any], what: str) -> tuple[list[Any], tuple[int, ...]]:
    """Lay nested lists out in row-major order.

    Args:
        data: a list or tuple, nested or flat.
        what: how the error shall name the tensor.

    Returns:
        The elements, and the shape that the nesting has.

    Raises:
        InvalidRequest: lists of one level have different lengths, or stand beside elements.
    """
    level = data if isinstance(data, list) else list(data)
    shape = [len(level)]
    while level and isinstance(level[0], list | tuple):
        if not all(isinstance(row, list | tuple) for row in level) or len(set(map(len, level))) > 1:
            raise InvalidRequest(f"{what}: its nested lists are of unequal length or depth")
        shape.append(len(level[0]))
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def typed_array(elements: list[Any], row: Datatype, what: str) -> Array:
    """Make a one-dimensional array of elements that came as Python values.

    Args:
        elements: bool for BOOL; int for the integer types; int, float or one of the strings
            "NaN", "Infinity", "-Infinity" for the float types; str or bytes for BYTES.
        row: the datatype that was declared for them.
        what: how the error shall name the tensor.

    Raises:
        InvalidRequest: an element is of another kind, or out of the datatype's range.
    """
    match row.dtype.kind:
        case "b":
            _check_kinds(elements, {bool}, row, what)
            return np.array(elements, row.dtype)
        case "i" | "u":
            _check_kinds(elements, {int}, row, what)
            return _integers(elements, row, what)
        case "f":
            return _floats(elements, row, what)
        case _:
            _check_kinds(elements, {str, bytes}, row, what)
            return bytes_array(elements, what)


def bytes_array(elements: Sequence[object], what: str) -> Array:
    """Make a one-dimensional object array of bytes; text becomes UTF-8.

    Raises:
        InvalidRequest: an element is neither text nor bytes, or text that UTF-8 cannot carry.
    """
    return object_array([_as_bytes(element, what) for element in elements])


def object_array(elements: list[bytes]) -> Array:
    """Make a one-dimensional object array; numpy left to itself would cut trailing zeros."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def _as_bytes(element: object, what: str) -> bytes:
    if isinstance(element, bytes):
        return bytes(element)
    if isinstance(element, str):
        try:
            return element.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{what}: its text holds half of a surrogate pair") from error
    raise InvalidRequest(f"{what}: BYTES elements are text or bytes, not {_told(element)}")


def _integers(elements: list[int], row: Datatype, what: str) -> Array:
    allowed = np.iinfo(row.dtype.str)
    for extreme in (min(elements), max(elements)) if elements else ():
        if not allowed.min <= extreme <= allowed.max:
            raise InvalidRequest(f"{what}: {_told(extreme)} is out of the range of {row.name}")
    return np.array(elements, row.dtype)


def _floats(elements: list[Any], row: Datatype, what: str) -> Array:
    if str in set(map(type, elements)):
        elements = [
            _NAMED_FLOATS.get(each, each) if isinstance(each, str) else each for each in elements
        ]
    _check_kinds(elements, {int, float}, row, what)
    try:
        wide = np.array(elements, np.float64)
    except OverflowError as error:
        raise InvalidRequest(f"{what}: an integer is out of the range of {row.name}") from error
    with np.errstate(over="ignore"):
        array = wide.astype(row.dtype, copy=False)
    lost = np.isinf(array) & np.isfinite(wide)
    if lost.any():
        raise InvalidRequest(f"{what}: {wide[lost][0]} is out of the range of {row.name}")
    return array


def _check_kinds(elements: list[Any], allowed: set[type], row: Datatype, what: str) -> None:
    kinds = set(map(type, elements))
    if kinds <= allowed:
        return
    if list in kinds or tuple in kinds:
        raise InvalidRequest(f"{what}: its nested lists are of unequal length or depth")
    wrong = next(each for each in elements if type(each) not in allowed)
    raise InvalidRequest(f"{what}: {_told(wrong)} is no element of {row.name}")


def _told(element: object) -> str:
    """Quote a stranger's value, in bounded length."""
    if isinstance(element, int) and element.bit_length() > 128:
        return f"an integer of {element.bit_length()} bits"
    if isinstance(element, str | bytes | int | float | None):
        return f"{element!r:.40}"
    return f"a {type(element).__name__}"
