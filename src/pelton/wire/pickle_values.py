"""From inert records to values: a tree, every piece of which is paid for.

A pickle may name the same list a thousand times through its memo, and that list another one, so a
few hundred bytes can stand for more than any memory holds; it may also hold itself. The builder
therefore walks the records as the tree that a reader of the value would walk, and counts each
piece each time it is met: values against the number of opcodes that a pickle may have (a pickle
that shares nothing needs at least one opcode per value), and bytes against the size that a body
may have. What the result shares cannot be changed: text, arrays and scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pelton.messages import Value
from pelton.tensors import Array
from pelton.wire.limits import Limits
from pelton.wire.pickle_arrays import check_elements, numpy_array, numpy_dtype, numpy_scalar
from pelton.wire.pickle_records import (
    Lent,
    RawArray,
    RawBytearray,
    RawDict,
    RawLatin1,
    RawScalar,
    RawSet,
    describe,
    refusal,
    too_large,
)

MAX_NUMBER_KEYS = 10_000
"""How many keys and set members of one pickle may be numbers.

Python hashes numbers without a secret, so a sender can choose numbers whose hashes are equal, and
a dict of n of those takes n**2 steps. Keys of at most 63 bits leave few such choices, and this
bound keeps even the worst of them short. Text and bytes are hashed with a secret.
"""

_MAX_KEY_BITS = 63

_EACH_TIME = ", each counted as often as it is referred to"

_NUMBERS: frozenset[type] = frozenset({type(None), bool, int, float, complex})


class Builder:
    """Builds the value of one pickle within a budget."""

    def __init__(self, limits: Limits, buffers: Sequence[memoryview]) -> None:
        self._buffers = buffers
        # By the identity of their records; read-only, so those who refer to one share it.
        self._built: dict[int, Array | np.generic] = {}
        self._max_depth = limits.max_json_depth
        self._max_values = self._values_left = limits.max_pickle_ops
        self._max_bytes = self._bytes_left = limits.max_body_bytes
        self._number_keys_left = MAX_NUMBER_KEYS

    def build(self, raw: object, depth: int = 0) -> Value:
        """Build the value that a record stands for.

        Args:
            raw: what the machine left.
            depth: how many containers lie around it.

        Raises:
            InvalidRequest: the record is no value, is not sound, or the budget is spent.
        """
        kind = type(raw)
        if kind in _NUMBERS:
            return raw
        build = _BUILD.get(kind)
        if build is None:
            raise refusal(f"{describe(raw)} is not allowed as a value")
        return build(self, raw, depth)

    def _enter(self, depth: int, count: int) -> int:
        """Pay for a container of `count` values and return the depth of what is in it."""
        if depth >= self._max_depth:
            raise refusal(f"nested more than {self._max_depth} deep")
        self._values_left -= count
        if self._values_left < 0:
            raise too_large(f"more than {self._max_values} values{_EACH_TIME}")
        return depth + 1

    def _pay_bytes(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise too_large(f"more than {self._max_bytes} bytes in its values{_EACH_TIME}")

    def _list(self, raw: list[object], depth: int) -> list[Value]:
        depth = self._enter(depth, len(raw))
        if _NUMBERS.issuperset(map(type, raw)):
            return raw.copy()
        return [self.build(item, depth) for item in raw]

    def _tuple(self, raw: tuple[object, ...], depth: int) -> tuple[Value, ...]:
        depth = self._enter(depth, len(raw))
        return tuple([self.build(item, depth) for item in raw])

    def _dict(self, raw: RawDict, depth: int) -> dict[Value, Value]:
        depth = self._enter(depth, len(raw.pairs))
        pairs = iter(raw.pairs)
        built = {
            self._key(key): self.build(value, depth)
            for key, value in zip(pairs, pairs, strict=True)
        }
        if 2 * len(built) != len(raw.pairs):
            raise refusal("a dict has the same key twice")
        return built

    def _set(self, raw: RawSet, depth: int) -> set[Value] | frozenset[Value]:
        self._enter(depth, len(raw.members))
        members = map(self._key, raw.members)
        return frozenset(members) if raw.frozen else set(members)

    def _key(self, raw: object) -> Value:
        """Build a dict's key or a set's member: nothing whose hash could be costly."""
        match raw:
            case str():
                return self._text(raw)
            case memoryview() | RawLatin1():
                return self._bytes(raw)
            case None | bool():
                return raw
            case int() | float():
                return self._number_key(raw)
        raise refusal(f"{describe(raw)} is not allowed as a key of a dict or a member of a set")

    def _number_key(self, key: int | float) -> int | float:
        self._number_keys_left -= 1
        if self._number_keys_left < 0:
            raise refusal(f"more than {MAX_NUMBER_KEYS} keys are numbers")
        if isinstance(key, int) and key.bit_length() > _MAX_KEY_BITS:
            raise refusal(f"a key is an integer of more than {_MAX_KEY_BITS} bits")
        return key

    def _text(self, raw: str, depth: int = 0) -> str:
        self._pay_bytes(len(raw))
        return raw

    def _memory(self, raw: object) -> memoryview | bytes:
        """Pay for what stands for bytes and return them, uncopied where that is possible."""
        if type(raw) is RawBytearray:
            raw = raw.data
        if type(raw) is Lent:
            raw = self._buffers[raw.index]
        if isinstance(raw, memoryview):
            self._pay_bytes(len(raw))
            return raw
        if type(raw) is not RawLatin1:
            raise refusal(f"{describe(raw)} in place of bytes")
        self._pay_bytes(len(raw.text))
        try:
            return raw.text.encode("latin1")
        except UnicodeEncodeError:
            raise refusal(
                "bytes that are written as text hold a character that is no byte"
            ) from None

    def _bytes(self, raw: object, depth: int = 0) -> bytes:
        return bytes(self._memory(raw))

    def _bytearray(self, raw: object, depth: int) -> bytearray:
        return bytearray(self._memory(raw))

    def _array(self, raw: RawArray, depth: int) -> Array | np.generic:
        built = self._again(raw)
        if built is None:
            if raw.content is None:
                raise refusal("an array without its content")
            data = self._memory(raw.content.data)
            built = self._built[id(raw)] = numpy_array(raw.content, data)
            check_elements(built.dtype, data)
        return built

    def _scalar(self, raw: RawScalar, depth: int) -> Array | np.generic:
        built = self._again(raw)
        if built is None:
            built = numpy_scalar(numpy_dtype(raw.dtype), self._memory(raw.data))
            self._built[id(raw)] = built
        return built

    def _again(self, raw: RawArray | RawScalar) -> Array | np.generic | None:
        """Pay once more for what has been built already, and return it."""
        built = self._built.get(id(raw))
        if built is not None:
            self._pay_bytes(built.nbytes)
        return built


_BUILD: dict[type, Callable[[Builder, Any, int], Value]] = {
    str: Builder._text,
    list: Builder._list,
    tuple: Builder._tuple,
    memoryview: Builder._bytes,
    Lent: Builder._bytes,
    RawDict: Builder._dict,
    RawSet: Builder._set,
    RawBytearray: Builder._bytearray,
    RawLatin1: Builder._bytes,
    RawArray: Builder._array,
    RawScalar: Builder._scalar,
}
