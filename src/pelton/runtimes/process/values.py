"""Any plain value as JSON beside a list of arrays, exactly, and back.

Text, numbers, None and lists are JSON's own. Whatever JSON has not, or has only nearly, is an
object with one key, which names what it is:

    {"d": {name: value}}        a dict whose keys are all text
    {"m": [[key, value], ...]}  any other dict
    {"t": [value, ...]}         a tuple; "s" a set, "f" a frozenset
    {"a": index}                an array: the frame of that index
    {"n": index}                a numpy scalar: a frame without dimensions
    {"b": index}                bytes: a frame of uint8; "B" a bytearray; "x" bytes as Latin-1 text
    {"o": [shape, [value ...]]} an object array
    {"z": [shape, [bytes ...], index]}  an object array of bytes: their lengths, and one frame
    {"c": [real, imaginary]}    a complex number
    {"i": "hexadecimal"}        an integer of more digits than JSON is read with

This is data through and through: reading it calls nothing that it names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pelton.tensors import Array

SHORT_BYTES = 1024
"""Bytes objects up to this size are written into the JSON."""

MAX_DIGITS_BITS = 4096
"""Integers up to this size are JSON numbers; Python reads 4,300 digits, which is more."""

NATIVE = frozenset({type(None), bool, str, int, float})


class CannotCarry(Exception):
    """A value is of a kind that has no form here; the message says which."""


class Malformed(Exception):
    """What came is not what `pack` makes."""


Add = Callable[[Array], int]
"""Takes an array along and returns its index."""


def pack(value: Any, add: Add) -> Any:
    """Return a value as what `json` writes exactly.

    Args:
        value: made of None, booleans, numbers, text, bytes, lists, tuples, sets, dicts, numpy
            arrays and numpy scalars; objects of derived classes become plain ones.
        add: takes the arrays.

    Raises:
        CannotCarry: anything else is in it, or it is nested too deeply.
    """
    try:
        return _pack(value, add)
    except RecursionError:
        raise CannotCarry("a value that is nested too deeply, or holds itself") from None


def _pack(value: Any, add: Add) -> Any:
    kind = type(value)
    if kind is int:
        return value if value.bit_length() <= MAX_DIGITS_BITS else {"i": f"{value:x}"}
    if kind in NATIVE:
        return value
    if kind is dict:
        return _pack_dict(value, add)
    if kind is np.ndarray:
        return _pack_array(value, add)
    if kind is list:
        return _pack_items(value, add)
    if kind is tuple:
        return {"t": _pack_items(value, add)}
    return _pack_rarer(value, add)


def _pack_items(items: Sequence[Any], add: Add) -> list[Any]:
    kinds = set(map(type, items))
    if kinds <= NATIVE and int not in kinds:
        return list(items)
    return [_pack(item, add) for item in items]


def _pack_dict(value: dict[Any, Any], add: Add) -> dict[str, Any]:
    if set(map(type, value)) <= {str}:
        return {"d": {key: _pack(item, add) for key, item in value.items()}}
    return {"m": [[_pack(key, add), _pack(item, add)] for key, item in value.items()]}


def _pack_array(array: Array, add: Add) -> dict[str, Any]:
    if not array.dtype.hasobject:
        return {"a": add(array)}
    if array.dtype.kind != "O":
        raise CannotCarry(f"an array of {array.dtype!s:.60}")
    items = array.reshape(-1).tolist()
    if set(map(type, items)) == {bytes}:
        joined = np.frombuffer(b"".join(items), np.uint8)
        return {"z": [list(array.shape), [len(item) for item in items], add(joined)]}
    return {"o": [list(array.shape), _pack_items(items, add)]}


def _pack_bytes(value: bytes | bytearray, tag: str, add: Add) -> dict[str, Any]:
    if tag == "b" and len(value) <= SHORT_BYTES:
        return {"x": value.decode("latin-1")}
    return {tag: add(np.frombuffer(bytes(value), np.uint8))}


def _pack_rarer(value: Any, add: Add) -> Any:
    for kind, form in _RARER:
        if isinstance(value, kind):
            return form(value, add)
    raise CannotCarry(f"a value of the type {type(value).__name__:.60}")


def _pack_scalar(value: np.generic, add: Add) -> Any:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise CannotCarry(f"a value of {array.dtype!s:.60}")
    return {"n": add(array)}


def _pack_subclass(value: np.ndarray[Any, Any], add: Add) -> Any:
    if isinstance(value, np.ma.MaskedArray):
        raise CannotCarry("a masked array; fill it first")
    return _pack_array(np.asarray(value), add)


_RARER: tuple[tuple[Any, Callable[[Any, Add], Any]], ...] = (
    (np.generic, _pack_scalar),
    (np.ndarray, _pack_subclass),
    (bytes, lambda value, add: _pack_bytes(bytes(value), "b", add)),
    (bytearray, lambda value, add: _pack_bytes(value, "B", add)),
    (complex, lambda value, add: {"c": [value.real, value.imag]}),
    (frozenset, lambda value, add: {"f": _pack_items(list(value), add)}),
    (set, lambda value, add: {"s": _pack_items(list(value), add)}),
    # Derived classes, such as an IntEnum or a named tuple, as the plain ones they derive from.
    (dict, lambda value, add: _pack_dict(dict(value), add)),
    (list, lambda value, add: _pack_items(value, add)),
    (tuple, lambda value, add: {"t": _pack_items(value, add)}),
    (str, lambda value, add: str.__str__(value)),
    (int, lambda value, add: _pack(int(value), add)),
    (float, lambda value, add: float(value)),
)


def unpack(packed: Any, arrays: Sequence[Array]) -> Any:
    """Return the value that `pack` was given.

    Args:
        packed: as `json` read it.
        arrays: the frames in order; they become part of the value.

    Raises:
        Malformed: `pack` makes no such thing.
    """
    try:
        return _unpack(packed, arrays)
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Malformed(f"{type(error).__name__} in a value") from error


def _unpack(packed: Any, arrays: Sequence[Array]) -> Any:
    if type(packed) is list:
        return _unpack_items(packed, arrays)
    if type(packed) is not dict:
        return packed
    ((tag, body),) = packed.items()
    return _UNPACK[tag](body, arrays)


def _unpack_items(items: Iterable[Any], arrays: Sequence[Array]) -> list[Any]:
    items = list(items)
    if set(map(type, items)) <= NATIVE:
        return items
    return [_unpack(item, arrays) for item in items]


def _frame(index: Any, arrays: Sequence[Array]) -> Array:
    if type(index) is not int or index < 0:
        raise ValueError("no index of a frame")
    return arrays[index]


def _unpack_scalar(index: Any, arrays: Sequence[Array]) -> np.generic:
    scalar: Any = _frame(index, arrays)[()]
    if not isinstance(scalar, np.generic):
        raise TypeError("no scalar")
    return scalar


def _unpack_objects(body: Any, arrays: Sequence[Array]) -> Array:
    shape, items = body
    return _object_array(shape, _unpack_items(items, arrays))


def _unpack_byte_strings(body: Any, arrays: Sequence[Array]) -> Array:
    shape, lengths, index = body
    joined = _frame(index, arrays).tobytes()
    items, start = [], 0
    for length in lengths:
        if type(length) is not int or not 0 <= length <= len(joined) - start:
            raise ValueError("no length")
        items.append(joined[start : start + length])
        start += length
    return _object_array(shape, items)


def _object_array(shape: Any, items: list[Any]) -> Array:
    if any(type(dim) is not int or dim < 0 for dim in shape) or math.prod(shape) != len(items):
        raise ValueError("a shape and its elements differ")
    array = np.empty(len(items), np.object_)
    for index, item in enumerate(items):
        array[index] = item
    return array.reshape(shape)


_UNPACK: dict[str, Callable[[Any, Sequence[Array]], Any]] = {
    "d": lambda body, arrays: {key: _unpack(item, arrays) for key, item in body.items()},
    "m": lambda body, arrays: {_unpack(key, arrays): _unpack(item, arrays) for key, item in body},
    "t": lambda body, arrays: tuple(_unpack_items(body, arrays)),
    "s": lambda body, arrays: set(_unpack_items(body, arrays)),
    "f": lambda body, arrays: frozenset(_unpack_items(body, arrays)),
    "a": _frame,
    "n": _unpack_scalar,
    "b": lambda body, arrays: _frame(body, arrays).tobytes(),
    "B": lambda body, arrays: bytearray(_frame(body, arrays).tobytes()),
    "x": lambda body, arrays: body.encode("latin-1"),
    "o": _unpack_objects,
    "z": _unpack_byte_strings,
    "c": lambda body, arrays: complex(float(body[0]), float(body[1])),
    "i": lambda body, arrays: int(body, 16),
}
