"""Plain values and arrays as bytes: one form for each value, and another value for each form.

A key is the hash of a question in this form, and Redis keeps answers in it. That no two values
share a form is shown by reading: `decode` gives back what `encode` was given, of the same types.

Every value is a tag of one byte, a number as eight bytes, little-endian, and what that announces:

    n t f            None, true, false; the number is 0 and nothing follows
    i length         an integer: two's complement, little-endian, no longer than it has to be
    d 8              a float: IEEE 754, little-endian
    s length         text in UTF-8
    b length         bytes; B a bytearray
    l count          a list: so many values; u a tuple
    m count          a dict: so many pairs of key and value, in its order; keys are no containers
    a length         an array: the length of numpy's name of the dtype as one byte, that name, and
                     the sizes of its dimensions, eight bytes each; then
      e length         its elements in C order
      z length         or, for an array of bytes objects: the length of each, eight bytes each
      b length         and all of them, one behind the other
    g length         a numpy scalar: as an array without dimensions

The order of a dict is part of its value, since a model may go by it. Lone surrogates are encoded
as Python's `surrogatepass` does.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from pelton.tensors import MAX_RANK, Array

MAX_DEPTH = 64
"""Values that are nested more deeply have no form."""

MAX_VALUES = 4096
"""Nor have values of more parts than this: each costs about half a microsecond, arrays aside."""

Part = bytes | memoryview
"""A piece of an encoded value; the elements of arrays are not copied."""

_HEAD = struct.Struct("<BQ")
_FLOAT = struct.Struct("<BQd")
_DTYPE = re.compile(r"[<>|](?:b1|[iu][1248]|f(?:2|4|8)|c(?:8|16)|[SU][1-9]\d{0,8})|\|O")
_SCALAR_KEYS = frozenset({str, int, float, bool, bytes, type(None)})


class NotPlain(Exception):
    """A value has no form here; the message says why."""


class Malformed(Exception):
    """The bytes are not what `encode` makes."""


def encode(value: Any) -> list[Part]:
    """Return the form of a value, in pieces that are to be joined.

    Args:
        value: made of None, booleans, numbers, text, bytes, lists, tuples, dicts, numpy arrays of
            numbers, booleans, text or bytes objects, and numpy scalars; of exactly these types.

    Returns:
        The pieces; elements of C-contiguous arrays are not copied for them.

    Raises:
        NotPlain: it holds anything else, is nested too deeply, or has too many parts.
    """
    writing = _Writing()
    writing.add(value, 0)
    return writing.parts


class _Writing:
    """The pieces of a value that is being encoded."""

    __slots__ = ("_values_left", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._values_left = MAX_VALUES

    def add(self, value: Any, depth: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise NotPlain(f"more than {MAX_VALUES} values")
        kind = type(value)
        if kind is np.ndarray:
            self._add_array(value)
        elif kind in _SIMPLE:
            self.parts.append(_SIMPLE[kind](value))
        elif depth >= MAX_DEPTH:
            raise NotPlain(f"nested more than {MAX_DEPTH} deep")
        elif kind is list or kind is tuple:
            self.parts.append(head(b"l" if kind is list else b"u", len(value)))
            for each in value:
                self.add(each, depth + 1)
        elif kind is dict:
            self._add_dict(value, depth)
        elif isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            self.parts.append(_array_head(b"g", value.dtype, (), value.nbytes))
            self.parts.append(value.tobytes())
        else:
            raise NotPlain(f"a value of the type {kind.__name__:.60}")

    def _add_dict(self, value: dict[Any, Any], depth: int) -> None:
        self.parts.append(head(b"m", len(value)))
        for key, each in value.items():
            if type(key) not in _SCALAR_KEYS:
                raise NotPlain(f"a dict with a key of the type {type(key).__name__:.60}")
            self.add(key, depth + 1)
            self.add(each, depth + 1)

    def _add_array(self, array: Array) -> None:
        if array.dtype.kind == "O":
            self._add_bytes_objects(array)
        else:
            self.parts += array_parts(array)

    def _add_bytes_objects(self, array: Array) -> None:
        items: list[Any] = array.reshape(-1).tolist()
        if not set(map(type, items)) <= {bytes}:
            raise NotPlain("an array of objects that are not all bytes")
        described = _described(array.dtype, array.shape)
        joined = b"".join(items)
        self.parts += (
            head(b"a", len(described)) + described + head(b"z", 8 * len(items)),
            struct.pack(f"<{len(items)}Q", *map(len, items)),
            head(b"b", len(joined)),
            joined,
        )


def array_parts(array: Array) -> tuple[Part, Part]:
    """Return the form of an array that holds no objects; `encode` does it too, not as quickly.

    Raises:
        NotPlain: its dtype has no form.
    """
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return _array_head(b"a", array.dtype, array.shape, array.nbytes), array.data


def head(tag: bytes, number: int) -> bytes:
    """Return the nine bytes that every value begins with."""
    return _HEAD.pack(tag[0], number)


def _text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return head(b"s", len(content)) + content


def _integer(value: int) -> bytes:
    length = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return head(b"i", length) + value.to_bytes(length, "little", signed=True)


_SIMPLE: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: _integer,
    float: lambda value: _FLOAT.pack(b"d"[0], 8, value),
    bool: lambda value: head(b"t" if value else b"f", 0),
    type(None): lambda _: head(b"n", 0),
    bytes: lambda value: head(b"b", len(value)) + value,
    bytearray: lambda value: head(b"B", len(value)) + value,
}


def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    name = dtype.str.encode("ascii")
    if not _DTYPE.fullmatch(dtype.str):
        raise NotPlain(f"an array of {dtype!s:.60}")
    return struct.pack(f"<B{len(name)}s{len(shape)}Q", len(name), name, *shape)


@functools.lru_cache(maxsize=1024)
def _array_head(tag: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], nbytes: int) -> bytes:
    described = _described(dtype, shape)
    return head(tag, len(described)) + described + head(b"e", nbytes)


def decode(encoded: bytes) -> Any:
    """Return the value whose form this is; every claim in it is checked before it is believed.

    Args:
        encoded: the joined pieces.

    Returns:
        The value. Its arrays of numbers lie in memory of their own that nobody can write to.

    Raises:
        Malformed: no value has this form.
    """
    reading = _Reading(encoded)
    try:
        value = reading.value(0)
    except (struct.error, ValueError, OverflowError, TypeError) as error:
        # What struct, numpy and the codecs say to numbers that make no sense.
        raise Malformed(f"{type(error).__name__} in a value") from error
    if reading.at != len(encoded):
        raise Malformed("bytes behind the value")
    return value


class _Reading:
    """Encoded bytes, and how far they have been read."""

    def __init__(self, encoded: bytes) -> None:
        self.at = 0
        self._encoded = encoded
        self._values_left = MAX_VALUES

    def value(self, depth: int) -> Any:
        tag, number = self._head()
        self._values_left -= 1
        if self._values_left < 0 or depth > MAX_DEPTH:
            raise Malformed("too many values, or nested too deeply")
        if tag in _READ_SIMPLE:
            return _READ_SIMPLE[tag](self._take(number))
        if tag == b"l":
            return [self.value(depth + 1) for _ in range(self._count(number))]
        if tag == b"u":
            return tuple([self.value(depth + 1) for _ in range(self._count(number))])
        if tag == b"m":
            return self._dict(self._count(number), depth)
        if tag == b"a":
            return self._array(number)
        if tag == b"g":
            return self._scalar(number)
        raise Malformed(f"unknown tag {tag!r}")

    def _head(self) -> tuple[bytes, int]:
        tag, number = _HEAD.unpack_from(self._encoded, self.at)
        self.at += _HEAD.size
        return bytes([tag]), number

    def _take(self, length: int) -> bytes:
        if length > len(self._encoded) - self.at:
            raise Malformed("a length beyond the end")
        self.at += length
        return self._encoded[self.at - length : self.at]

    def _count(self, count: int) -> int:
        if count > self._values_left:
            raise Malformed("too many values")
        return count

    def _dict(self, count: int, depth: int) -> dict[Any, Any]:
        pairs: dict[Any, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if type(key) not in _SCALAR_KEYS:
                raise Malformed("a container as a key")
            pairs[key] = self.value(depth + 1)
        if len(pairs) != count:
            raise Malformed("a key that is there twice")
        return pairs

    def _content(self, wanted: bytes) -> bytes:
        tag, length = self._head()
        if tag != wanted:
            raise Malformed(f"{tag!r} where {wanted!r} belongs")
        return self._take(length)

    def _array(self, length: int) -> Array:
        dtype, shape = _description(self._take(length))
        if dtype.kind == "O":
            return self._bytes_objects(shape)
        content = self._content(b"e")
        if math.prod(shape) * dtype.itemsize != len(content):
            raise Malformed("a shape and its elements differ")
        return np.ndarray(shape, dtype, buffer=content)

    def _bytes_objects(self, shape: tuple[int, ...]) -> Array:
        packed = self._content(b"z")
        lengths = struct.unpack(f"<{len(packed) // 8}Q", packed)
        joined = self._content(b"b")
        if math.prod(shape) != len(lengths) or sum(lengths) != len(joined):
            raise Malformed("lengths and their bytes differ")
        array = np.empty(len(lengths), np.object_)
        start = 0
        for index, length in enumerate(lengths):
            array[index] = joined[start : start + length]
            start += length
        return array.reshape(shape)

    def _scalar(self, length: int) -> Any:
        dtype, shape = _description(self._take(length))
        content = self._content(b"e")
        if shape or dtype.kind == "O" or len(content) != dtype.itemsize:
            raise Malformed("no scalar")
        scalar: Any = np.ndarray((), dtype, buffer=content)[()]
        return scalar


def _description(content: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    length = content[0] if content else 0
    name, sizes = content[1 : 1 + length].decode("ascii"), content[1 + length :]
    if not _DTYPE.fullmatch(name) or len(sizes) > 8 * MAX_RANK:
        raise Malformed("no dtype, or too many dimensions")
    return np.dtype(name), struct.unpack(f"<{len(sizes) // 8}Q", sizes)


def _read_nothing(value: bool | None) -> Callable[[bytes], bool | None]:
    def read(content: bytes) -> bool | None:
        if content:
            raise Malformed("bytes where none belong")
        return value

    return read


def _read_integer(content: bytes) -> int:
    value = int.from_bytes(content, "little", signed=True)
    if _integer(value) != head(b"i", len(content)) + content:
        raise Malformed("an integer that is longer than it has to be")
    return value


def _read_float(content: bytes) -> float:
    value: float = struct.unpack("<d", content)[0]
    return value


_READ_SIMPLE: dict[bytes, Callable[[bytes], Any]] = {
    b"n": _read_nothing(None),
    b"t": _read_nothing(True),
    b"f": _read_nothing(False),
    b"i": _read_integer,
    b"d": _read_float,
    b"s": lambda content: content.decode("utf-8", "surrogatepass"),
    b"b": bytes,
    b"B": bytearray,
}
