"""Arrays in MessagePack, in the dialects that robots' clients already speak.

MessagePack has no arrays, so each library packs them as a map of its own form:

    openpi          {"__ndarray__": true, "data": bin, "dtype": "<f4", "shape": [6]}
                    {"__npgeneric__": true, "data": 1.5, "dtype": "<f4"}
    msgpack-numpy   {"nd": true, "type": "<f4", "kind": bin, "shape": [6], "data": bin}
                    {"nd": false, "type": "<f4", "data": bin}

Python clients write these keys as bin, others as text. A reply is written in the dialect in
which the request was. Neither dialect's object arrays are read: they hold a pickle.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pelton.errors import Code, InvalidRequest
from pelton.messages import Value
from pelton.tensors import DATATYPES, Array, datatype_name, element_count
from pelton.wire.array_bytes import Buffer, array_of, bytes_of
from pelton.wire.element_lists import typed_array
from pelton.wire.limits import Limits
from pelton.wire.messagepack import pack, unpack

_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_VIEWED: frozenset[str | bytes] = frozenset({"data", b"data"})


class MsgpackDialect(enum.Enum):
    """How the arrays of a message are written."""

    PLAIN = "lists"
    OPENPI = "openpi"
    OPENPI_TEXT = "openpi, text keys"
    MSGPACK_NUMPY = "msgpack-numpy"


def decode(body: memoryview, limits: Limits) -> tuple[Value, MsgpackDialect]:
    """Read a message.

    Args:
        body: the whole body. Arrays are read-only views of it where their bytes happen to lie
            at a multiple of the element's size, else copies.
        limits: what may come.

    Returns:
        The value, and the dialect of the first array in it; `PLAIN` where there is none.

    Raises:
        InvalidRequest: the body is no MessagePack, or an array in it is none.
    """
    dialects: list[MsgpackDialect] = []
    value = unpack(body, limits, _VIEWED, functools.partial(_revive, dialects))
    return value, dialects[0] if dialects else MsgpackDialect.PLAIN


def encode(value: Value, dialect: MsgpackDialect) -> list[Buffer]:
    """Write a message.

    Args:
        value: plain values and arrays. Arrays of text, bytes or objects, and with `PLAIN` all
            arrays, become nested lists.
        dialect: how arrays are written.

    Returns:
        The pieces; big arrays are views where these lie little-endian and row-major.

    Raises:
        TypeError: the value holds something that MessagePack cannot carry.
    """
    return pack(value, functools.partial(_lower, dialect))


def _revive(dialects: list[MsgpackDialect], found: dict[str | bytes, Value]) -> Value:
    """Turn a map that stands for an array into it."""
    for marker, (dialect, read) in _MARKERS.items():
        if marker in found:
            dialects.append(dialect)
            return read({_text(key): value for key, value in found.items()})
    for key in _VIEWED & found.keys():
        if isinstance(found[key], memoryview):
            found[key] = bytes(found[key])
    return found


def _openpi_array(fields: Mapping[str, Value]) -> Array:
    return _array(fields, "dtype", fields.get("shape"))


def _openpi_scalar(fields: Mapping[str, Value]) -> np.generic:
    dtype = _dtype(fields.get("dtype"))
    row = DATATYPES[datatype_name(np.empty(0, dtype))]
    scalar: np.generic = typed_array([fields.get("data")], row, "a scalar")[0]
    return scalar


def _msgpack_numpy(fields: Mapping[str, Value]) -> Array | np.generic:
    if fields.get("nd") is True:
        return _array(fields, "type", fields.get("shape"))
    scalar: np.generic = _array(fields, "type", [1])[0]
    return scalar


_MARKERS: dict[str | bytes, tuple[MsgpackDialect, Callable[[Mapping[str, Value]], Value]]] = {
    b"__ndarray__": (MsgpackDialect.OPENPI, _openpi_array),
    b"__npgeneric__": (MsgpackDialect.OPENPI, _openpi_scalar),
    b"nd": (MsgpackDialect.MSGPACK_NUMPY, _msgpack_numpy),
    "__ndarray__": (MsgpackDialect.OPENPI_TEXT, _openpi_array),
    "__npgeneric__": (MsgpackDialect.OPENPI_TEXT, _openpi_scalar),
}


def _array(fields: Mapping[str, Value], dtype_key: str, shape: object) -> Array:
    dtype = _dtype(fields.get(dtype_key))
    raw = fields.get("data")
    if not isinstance(raw, memoryview):
        raise _wrong("its data must be of type bin")
    if not isinstance(shape, list):
        raise _wrong("its shape must be a list of integers")
    needed = element_count(shape, "an array") * dtype.itemsize
    if needed != len(raw):
        raise _wrong(f"its shape and {dtype} need {needed} bytes, but {len(raw)} came")
    if dtype.kind == "b" and bytes(raw).strip(b"\x00\x01"):
        raise _wrong("a bool is one byte, 0 or 1")
    array = array_of(raw, dtype, shape, "an array")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _dtype(text: object) -> np.dtype[Any]:
    name = _text(text) if isinstance(text, bytes) else text
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise _wrong(f"dtype {text!r:.40} is refused; numbers and booleans are taken")
    return np.dtype(name)


def _lower(dialect: MsgpackDialect, value: object) -> Value:
    """Turn an array or a scalar into what MessagePack can carry."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"MessagePack cannot carry a {type(value).__name__}")
    if not _DTYPE.fullmatch(value.dtype.str) and value.dtype.kind not in "SUO":
        raise TypeError(f"MessagePack cannot carry an array of {value.dtype}")
    if dialect is MsgpackDialect.PLAIN or value.dtype.kind in "SUO":
        return value.tolist()
    return _keyed(_lowered(value, dialect), dialect)


def _lowered(value: Array | np.generic, dialect: MsgpackDialect) -> dict[str, Value]:
    dtype = value.dtype.newbyteorder("<").str
    data = bytes_of(np.asarray(value))
    match dialect, value:
        case MsgpackDialect.MSGPACK_NUMPY, np.ndarray():
            return {"nd": True, "type": dtype, "kind": b"", "shape": value.shape, "data": data}
        case MsgpackDialect.MSGPACK_NUMPY, _:
            return {"nd": False, "type": dtype, "data": data}
        case _, np.ndarray():
            return {"__ndarray__": True, "data": data, "dtype": dtype, "shape": value.shape}
        case _:
            return {"__npgeneric__": True, "data": value.item(), "dtype": dtype}


def _keyed(fields: dict[str, Value], dialect: MsgpackDialect) -> dict[Any, Value]:
    if dialect is MsgpackDialect.OPENPI_TEXT:
        return fields
    return {key.encode("ascii"): value for key, value in fields.items()}


def _text(key: str | bytes) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(f"MessagePack: an array is wrong: {message}", Code.INVALID_INPUT)
