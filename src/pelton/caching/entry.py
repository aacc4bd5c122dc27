"""An answer in the form in which it is kept: nobody can change it any more, on purpose or not.

Its arrays are copies, since a model may use its buffers again, and lie in `bytes` objects, since
numpy lets no one make an array over those writable. Containers are made anew for each who is
given them; what they hold is shared.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pelton.caching.encoding import MAX_DEPTH, MAX_VALUES, NotPlain
from pelton.messages import Value
from pelton.tensors import Array

ENTRY_BYTES = 512
"""What an entry takes besides its values: its key, its place in the tables, its dict."""

VALUE_BYTES = 128
"""What a value takes besides its content: the object itself, its name, its place in a container."""

ARRAY_BYTES = 256
"""What an array takes more than any other value: its two objects, its shape and strides."""

_UNCHANGING = frozenset({type(None), bool, int, float})


class TooLarge(Exception):
    """The answer takes more memory than an entry may."""


class Entry(NamedTuple):
    """A kept answer.

    Attributes:
        size_bytes: the memory that it takes, together with its key.
        digest: of the outputs, in deterministic mode; else empty.
        frozen: the outputs; to be read only.
        flat: whether they hold no containers.
    """

    size_bytes: int
    digest: str
    frozen: Mapping[str, Value]
    flat: bool

    @property
    def outputs(self) -> dict[str, Value]:
        """The outputs for one who asked; arrays are read-only and shared."""
        if self.flat:
            return dict(self.frozen)
        return {name: _apart(value) for name, value in self.frozen.items()}


def entry_of(outputs: Mapping[str, Value], digest: str = "", limit_bytes: float = 2**62) -> Entry:
    """Make an entry of an answer.

    Args:
        outputs: output name -> array, or any plain value.
        digest: of the outputs, in deterministic mode; else empty.
        limit_bytes: the most that it may take.

    Raises:
        TooLarge: it would take more; nothing large has been copied.
        NotPlain: an output is, or holds, an object of which no copy can be made.
    """
    quick = _of_arrays(outputs, digest, limit_bytes)
    if quick is not None:
        return quick
    freezing = _Freezing(limit_bytes - ENTRY_BYTES)
    frozen = {name: freezing.copy(value, 1) for name, value in outputs.items()}
    size_bytes = int(ENTRY_BYTES + freezing.taken_bytes)
    return Entry(size_bytes, digest, frozen, freezing.flat)


def _of_arrays(outputs: Mapping[str, Value], digest: str, limit_bytes: float) -> Entry | None:
    """Make an entry where all outputs are arrays of numbers, as they are nearly always."""
    size_bytes = ENTRY_BYTES
    frozen: dict[str, Value] = {}
    for name, value in outputs.items():
        if type(value) is not np.ndarray or value.dtype.kind not in "biufc":
            return None
        size_bytes += VALUE_BYTES + ARRAY_BYTES + value.nbytes
        if size_bytes > limit_bytes:
            raise TooLarge
        frozen[name] = np.ndarray(value.shape, value.dtype, value.tobytes())
    return Entry(size_bytes, digest, frozen, True)


class _Freezing:
    """Copies values, as long as the copies take no more memory than they may."""

    __slots__ = ("_limit_bytes", "_values_left", "flat", "taken_bytes")

    def __init__(self, limit_bytes: float) -> None:
        self.taken_bytes = 0
        self.flat = True
        self._limit_bytes = limit_bytes
        self._values_left = MAX_VALUES

    def copy(self, value: Value, depth: int) -> Value:
        self._values_left -= 1
        if self._values_left < 0:
            raise NotPlain(f"more than {MAX_VALUES} values")
        kind = type(value)
        if kind is np.ndarray:
            return self._array(value)
        if kind in _UNCHANGING:
            self._take(0)
            return value
        if kind is str or kind is bytes:
            self._take(sys.getsizeof(value))
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            self._take(value.nbytes)
            return value
        if depth > MAX_DEPTH:
            raise NotPlain(f"nested more than {MAX_DEPTH} deep")
        return self._container(value, depth + 1)

    def _take(self, size_bytes: int) -> None:
        self.taken_bytes += VALUE_BYTES + size_bytes
        if self.taken_bytes > self._limit_bytes:
            raise TooLarge

    def _array(self, array: Array) -> Array:
        if array.dtype.kind == "O":
            items: list[Any] = array.reshape(-1).tolist()
            if not set(map(type, items)) <= {bytes}:
                raise NotPlain("an array of objects that are not all bytes")
            self._take(ARRAY_BYTES + sum(map(len, items)) + VALUE_BYTES * len(items))
            copied = array.copy()
            copied.flags.writeable = False
            return copied[...]  # the flag of a view cannot be set again
        if array.dtype.kind not in "biufcSU":
            raise NotPlain(f"an array of {array.dtype!s:.60}")
        self._take(ARRAY_BYTES + array.nbytes)
        return np.ndarray(array.shape, array.dtype, buffer=array.tobytes())

    def _container(self, value: Value, depth: int) -> Value:
        self.flat = False
        kind = type(value)
        self._take(0)
        if kind is dict:
            pairs = value.items()
            return {self.copy(key, depth): self.copy(each, depth) for key, each in pairs}
        if kind is list:
            return [self.copy(each, depth) for each in value]
        if kind is tuple:
            return tuple([self.copy(each, depth) for each in value])
        if kind is bytearray:
            self._take(len(value))
            return bytearray(value)
        raise NotPlain(f"a value of the type {kind.__name__:.60}")


def _apart(value: Value) -> Value:
    kind = type(value)
    if kind is dict:
        return {key: _apart(each) for key, each in value.items()}
    if kind is list:
        return [_apart(each) for each in value]
    if kind is tuple:
        return tuple([_apart(each) for each in value])
    return bytearray(value) if kind is bytearray else value
