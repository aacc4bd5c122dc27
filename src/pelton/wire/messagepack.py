"""The MessagePack format, read from one block and written in pieces.

Reading trusts no length: each is compared with the bytes that are left before anything is made.
Values are counted, since a one-byte empty list costs sixty in memory. Writing leaves big
buffers where they are.

Specification: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pelton.errors import Code, InvalidRequest
from pelton.messages import Value
from pelton.wire.array_bytes import Buffer
from pelton.wire.limits import Limits

MapHook = Callable[[dict[str | bytes, Value]], Value]
"""Told of each finished map; returns what stands in its place. Values of type bin that stand
under a `viewed` key come to it as views of the message, all others as bytes."""

_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    tag: struct.Struct(f">{form}")
    for tag, form in zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True)
}
_LENGTHS = {1: struct.Struct(">B"), 2: struct.Struct(">H"), 4: struct.Struct(">I")}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}

_OWN_PIECE_BYTES = 4096
"""From this size on, a buffer is handed on as a piece of its own instead of being copied."""


def unpack(
    body: memoryview, limits: Limits, viewed: frozenset[str | bytes], hook: MapHook
) -> Value:
    """Read one value.

    Args:
        body: nothing but the value.
        limits: `max_json_depth` bounds the nesting, `max_pickle_ops` the number of values.
        viewed: the keys whose bytes are not copied.
        hook: told of each map.

    Raises:
        InvalidRequest: the body is not one value (`MALFORMED_REQUEST`), or one of too many parts
            (`TOO_LARGE`). Map keys other than text and bytes, keys that come twice, and extension
            types are refused too.
    """
    reader = _Reader(body, limits, viewed, hook)
    value = reader.value(0)
    if reader.at != len(body):
        raise _malformed(f"{len(body) - reader.at} bytes follow the value")
    return bytes(value) if isinstance(value, memoryview) else value


def pack(value: Value, hook: Callable[[Any], Value]) -> list[Buffer]:
    """Write one value.

    Args:
        value: None, bool, int, float, str, bytes, list, tuple, dict with keys of text or bytes,
            or anything that `hook` makes one of these.
        hook: told of each value of another type; raises TypeError for what cannot be sent.

    Returns:
        The pieces, to be written one after the other.

    Raises:
        TypeError: something in the value has no form in MessagePack.
    """
    writer = _Writer(hook)
    try:
        writer.value(value)
    except (struct.error, UnicodeEncodeError) as error:
        raise TypeError(
            "MessagePack cannot carry integers of over 64 bits or broken text"
        ) from error
    except RecursionError as error:
        raise TypeError("MessagePack cannot carry a value that holds itself") from error
    return writer.finish()


class _Reader:
    """Takes one value after the other."""

    def __init__(
        self, body: memoryview, limits: Limits, viewed: frozenset[str | bytes], hook: MapHook
    ) -> None:
        self.at = 0
        self._body = body
        self._max_depth = limits.max_json_depth
        self._max_values = limits.max_pickle_ops
        self._values = 0
        self._viewed = viewed
        self._hook = hook

    def value(self, depth: int) -> Value:
        """Read the next value; bin comes as a view."""
        self._count()
        tag = self._take(1)[0]
        if tag <= 0x7F:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag <= 0x8F:
            return self._map(tag & 0x0F, depth)
        if tag <= 0x9F:
            return self._list(tag & 0x0F, depth)
        if tag <= 0xBF:
            return self._text(tag & 0x1F)
        if tag in _NUMBERS:
            form = _NUMBERS[tag]
            return form.unpack(self._take(form.size))[0]
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        return self._sized(tag, depth)

    def _sized(self, tag: int, depth: int) -> Value:
        if tag in _TEXTS:
            return self._text(self._length(_TEXTS[tag]))
        if tag in _BINS:
            return self._take(self._length(_BINS[tag]))
        if tag in _LISTS:
            return self._list(self._length(_LISTS[tag]), depth)
        if tag in _MAPS:
            return self._map(self._length(_MAPS[tag]), depth)
        if tag == 0xC1:
            raise _malformed("the byte 0xc1 begins no value")
        raise _malformed("extension types are not understood")

    def _take(self, size: int) -> memoryview:
        end = self.at + size
        if end > len(self._body):
            raise _malformed("the body is cut short")
        taken = self._body[self.at : end]
        self.at = end
        return taken

    def _length(self, size: int) -> int:
        length: int = _LENGTHS[size].unpack(self._take(size))[0]
        return length

    def _count(self) -> None:
        self._values += 1
        if self._values > self._max_values:
            raise InvalidRequest(
                f"MessagePack: more than {self._max_values} values; send numbers as arrays",
                Code.TOO_LARGE,
            )

    def _text(self, size: int) -> str:
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as error:
            raise _malformed("a text is not UTF-8") from error

    def _enter(self, parts: int, depth: int) -> int:
        """Check a container before it is made; each of its parts takes a byte at least."""
        if parts > len(self._body) - self.at:
            raise _malformed("the body is cut short")
        if depth >= self._max_depth:
            raise _malformed(f"nested more than {self._max_depth} levels deep")
        return depth + 1

    def _list(self, size: int, depth: int) -> list[Value]:
        inside = self._enter(size, depth)
        values = [self.value(inside) for _ in range(size)]
        return [bytes(each) if isinstance(each, memoryview) else each for each in values]

    def _map(self, size: int, depth: int) -> Value:
        inside = self._enter(2 * size, depth)
        found: dict[str | bytes, Value] = {}
        for _ in range(size):
            key = self.value(inside)
            if isinstance(key, memoryview):
                key = bytes(key)
            if not isinstance(key, str | bytes):
                raise _malformed(f"a map has a {type(key).__name__} as key; use text")
            if key in found:
                raise _malformed(f"a map has the key {key!r:.60} twice")
            value = self.value(inside)
            if isinstance(value, memoryview) and key not in self._viewed:
                value = bytes(value)
            found[key] = value
        return self._hook(found)


class _Writer:
    """Gathers small values in one buffer and lets big ones stand beside it."""

    def __init__(self, hook: Callable[[Any], Value]) -> None:
        self._hook = hook
        self._pieces: list[Buffer] = []
        self._open = bytearray()

    def finish(self) -> list[Buffer]:
        """Return all pieces."""
        self._close()
        return self._pieces

    def value(self, value: Value) -> None:
        """Write one value."""
        match value:
            case None:
                self._open.append(0xC0)
            case bool():
                self._open.append(0xC3 if value else 0xC2)
            case int():
                self._integer(int(value))
            case float():
                self._open += struct.pack(">Bd", 0xCB, value)
            case str():
                text = value.encode("utf-8")
                self._head(len(text), (0xA0, 32), (0xD9, 0xDA, 0xDB))
                self._open += text
            case bytes() | bytearray() | memoryview():
                self._bin(value)
            case list() | tuple():
                self._head(len(value), (0x90, 16), (None, 0xDC, 0xDD))
                for each in value:
                    self.value(each)
            case dict():
                self._map(value)
            case _:
                self.value(self._hook(value))

    def _map(self, value: dict[Any, Value]) -> None:
        self._head(len(value), (0x80, 16), (None, 0xDE, 0xDF))
        for key, each in value.items():
            if not isinstance(key, str | bytes):
                raise TypeError(f"a dict has a {type(key).__name__} as key; use text")
            self.value(key)
            self.value(each)

    def _integer(self, value: int) -> None:
        if -0x20 <= value <= 0x7F:
            self._open.append(value & 0xFF)
        elif value >= 0:
            self._open += struct.pack(">BQ", 0xCF, value)
        else:
            self._open += struct.pack(">Bq", 0xD3, value)

    def _bin(self, value: bytes | bytearray | memoryview) -> None:
        octets = memoryview(value).cast("B")
        self._head(len(octets), (0, 0), (0xC4, 0xC5, 0xC6))
        if len(octets) < _OWN_PIECE_BYTES:
            self._open += octets
        else:
            self._close()
            self._pieces.append(octets)

    def _head(self, size: int, short: tuple[int, int], tags: tuple[int | None, int, int]) -> None:
        """Write a length in the fewest bytes.

        Args:
            size: the length.
            short: tag that holds lengths in itself, and the first length that it cannot hold.
            tags: tags before lengths of 1, 2 and 4 bytes.
        """
        if size < short[1]:
            self._open.append(short[0] | size)
            return
        for tag, length_bytes in zip(tags, (1, 2, 4), strict=True):
            if tag is not None and size < 1 << 8 * length_bytes:
                self._open.append(tag)
                self._open += _LENGTHS[length_bytes].pack(size)
                return
        raise TypeError("MessagePack cannot carry more than 2**32 - 1 bytes or items at once")

    def _close(self) -> None:
        if self._open:
            self._pieces.append(bytes(self._open))
            self._open = bytearray()


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(f"MessagePack: {message}", Code.MALFORMED_REQUEST)
