"""One side of the talk between the server and a worker: small messages, big arrays beside them.

A message on the socket is never longer than `MESSAGE_BYTES`, so that one `send` and one `recv` do:

    offset  bytes
         0      4  length of all that follows on the socket, this head included, u32
         4      4  length of the text in bytes, u32
         8      8  0, or 1 + where the text lies in the sender's outbox, u64; little-endian all
        16         the text, unless it lies there: JSON [kind, let go, frames, value]
                   from the next multiple of 16 on, the small arrays

`values.py` describes `value`, which refers to its arrays as frames. A frame is
[dtype, shape, place, offset, serial]; its place is this message (0), the sender's outbox (1) or
the memory of request bodies (2). The receiver reads it where it lies. Nobody gives a block back:
once nothing refers to what lay in a frame the receiver names its serial in the next message it
sends, and then the sender lets go of it too. A receiver that keeps a view keeps the block.
"""

from __future__ import annotations

import functools
import json
import math
import socket
import struct
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pelton.arena import Arena
from pelton.buffers import BufferPool
from pelton.runtimes.process.values import CannotCarry, Malformed, pack, unpack
from pelton.tensors import MAX_RANK, Array

MESSAGE_BYTES = 64 * 1024
"""Longest message on the socket; a longer text lies in the outbox."""

SMALL_ARRAY_BYTES = 16 * 1024
"""Arrays up to this size are in the message itself, while there are not too many of them."""

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Longest text of a message; arrays are not in it."""

HERE, OUTBOX, BODIES = 0, 1, 2

_HEAD = struct.Struct("<IIQ")
_STEP = 16
_ENCODER = json.JSONEncoder(check_circular=False, separators=(",", ":"))
_DECODER = json.JSONDecoder()
_PLAIN_KINDS = frozenset("biufcSUmMV")


class Packed(NamedTuple):
    """A value on its way.

    Attributes:
        value: as `values.pack` makes it.
        frames: the descriptions of its arrays.
        small: the arrays that go into the message itself, as bytes.
    """

    value: Any
    frames: list[list[Any]]
    small: list[bytes]


class Message(NamedTuple):
    """What came.

    Attributes:
        kind: what the message is about.
        value: what it says.
    """

    kind: str
    value: Any


class _Borrowed(weakref.ref[Array]):
    """Tells when nothing refers to a frame of the other side any more."""

    __slots__ = ("serial",)
    serial: int


class Channel:
    """One side's socket, the memory it sends from, and the memory it reads from.

    One thread sends and receives; whoever views what came may let go of it in any thread.
    """

    def __init__(
        self, sock: socket.socket, outbox: Arena, keep_bytes: int, readable: Mapping[int, Arena]
    ) -> None:
        """Take a connected socket over.

        Args:
            sock: a stream; it may be non-blocking.
            outbox: where big arrays are put that the other side shall read.
            keep_bytes: how much of it stays in memory for reuse.
            readable: the memory in which the other side's frames may lie, by place; for a
                sender, that of `BODIES` holds arrays which need not be copied.
        """
        self._sock = sock
        self._outbox = outbox
        self._pool = BufferPool(keep_bytes, outbox)
        self._readable = readable
        self._serial = 0
        self._lent: dict[int, object] = {}
        self._long_text: memoryview | None = None
        self._borrowed: dict[int, _Borrowed] = {}
        # Filled by whichever thread lets go; appending to a deque is atomic.
        self._let_go: deque[weakref.ref[Array]] = deque()
        self._unsaid: list[int] = []
        self._received = b""

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    @property
    def lent_frames(self) -> int:
        """How many arrays the other side may still look at."""
        return len(self._lent)

    def close(self) -> None:
        """Close the socket, and let go of all that was lent."""
        self._sock.close()
        self._outbox.close()
        self._lent.clear()
        self._long_text = None

    def pack(self, value: Any, bodies: Arena | None = None) -> Packed:
        """Make a value ready to be sent; big arrays are in shared memory afterwards.

        Args:
            value: as `values.pack` takes it.
            bodies: memory that the other side reads too; arrays in it are not copied.

        Raises:
            CannotCarry: the value has no form here, or is too large.
        """
        frames: list[list[Any]] = []
        small: list[bytes] = []
        room = MESSAGE_BYTES // 2

        def add(array: Array) -> int:
            nonlocal room
            padded = array.nbytes + -array.nbytes % _STEP
            if array.nbytes <= SMALL_ARRAY_BYTES and padded <= room:
                offset = MESSAGE_BYTES // 2 - room
                room -= padded
                small.append(array.tobytes().ljust(padded, b"\0"))
                place, serial = HERE, 0
            else:
                place, offset, serial = self._lend(array, bodies)
            frames.append([_dtype_told(array.dtype), array.shape, place, offset, serial])
            return len(frames) - 1

        try:
            return Packed(pack(value, add), frames, small)
        except CannotCarry:
            self._take_back(frames)
            raise

    def _take_back(self, frames: list[list[Any]]) -> None:
        for *_, serial in frames:
            self._lent.pop(serial, None)

    def _lend(self, array: Array, bodies: Arena | None) -> tuple[int, int, int]:
        holder: object = array
        place, offset = BODIES, bodies.offset_of(array) if bodies is not None else None
        if offset is None:
            holder = self._pool.take(array.nbytes)
            target: Array = np.frombuffer(holder, array.dtype).reshape(array.shape)
            place, offset = OUTBOX, self._outbox.offset_of(target)
            if offset is None:
                raise CannotCarry(f"an array of {array.nbytes} bytes, for which there is no room")
            np.copyto(target, array)
        self._serial += 1
        self._lent[self._serial] = holder
        return place, offset, self._serial

    def send(self, kind: str, packed: Packed) -> None:
        """Send a message; the other side must have answered the one before.

        Raises:
            CannotCarry: its text is too long.
            OSError: the other side is gone, or does not read.
        """
        self._settle()
        self._long_text = None
        try:
            message = self._message([kind, self._unsaid, packed.frames, packed.value], packed.small)
        except CannotCarry:
            self._take_back(packed.frames)
            raise
        self._unsaid.clear()
        if self._sock.send(message) != len(message):
            raise BrokenPipeError("the other side does not read")

    def _message(self, parts: list[Any], small: list[bytes]) -> bytes:
        text = _text(parts)
        small_bytes = sum(map(len, small))
        padding = -len(text) % _STEP
        length = _HEAD.size + len(text) + padding + small_bytes
        if length <= MESSAGE_BYTES:
            return b"".join([_HEAD.pack(length, len(text), 0), text, bytes(padding), *small])
        start = self._put_text(text)
        return b"".join([_HEAD.pack(_HEAD.size + small_bytes, len(text), 1 + start), *small])

    def _put_text(self, text: bytes) -> int:
        if len(text) > MAX_TEXT_BYTES:
            raise CannotCarry(f"plain values of more than {MAX_TEXT_BYTES >> 20} MB")
        self._long_text = self._pool.take(len(text))
        self._long_text[:] = text
        offset = self._outbox.offset_of(np.frombuffer(self._long_text, np.uint8))
        if offset is None:
            raise CannotCarry("plain values for which there is no room")
        return offset

    def _settle(self) -> None:
        """Take note of the frames that nothing refers to any more."""
        while self._let_go:
            borrowed = self._let_go.popleft()
            assert isinstance(borrowed, _Borrowed)
            del self._borrowed[id(borrowed)]
            self._unsaid.append(borrowed.serial)

    def receive(self) -> Message | None:
        """Read from the socket once.

        Returns:
            The message, or None if some of it is still to come.

        Raises:
            EOFError: the other side has closed.
            Malformed: what came is no message.
            OSError: the socket is broken; `BlockingIOError` if nothing has come.
        """
        data = self._sock.recv(MESSAGE_BYTES)
        if not data:
            raise EOFError
        if self._received:
            data = self._received + data
        length = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else MESSAGE_BYTES
        if not _HEAD.size <= length <= MESSAGE_BYTES or len(data) > length:
            raise Malformed("a message of the wrong length")
        if len(data) < length or len(data) < _HEAD.size:
            self._received = data
            return None
        self._received = b""
        return self._read(data)

    def _read(self, data: bytes) -> Message:
        _, text_bytes, start = _HEAD.unpack_from(data)
        if start:
            text, small = self._long(start - 1, text_bytes), _HEAD.size
        else:
            small = _HEAD.size + text_bytes
            text = data[_HEAD.size : small]
            small += -small % _STEP
        try:
            (kind, let_go, frames, value), end = _DECODER.raw_decode(text.decode("ascii"))
            for serial in let_go:
                self._lent.pop(serial, None)
            arrays = [self._array(data, small, *frame) for frame in frames]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Malformed(f"{type(error).__name__} in a message") from error
        if type(kind) is not str or end != len(text):
            raise Malformed("a message that is not one of a kind")
        return Message(kind, unpack(value, arrays))

    def _long(self, offset: int, length: int) -> bytes:
        arena = self._readable[OUTBOX]
        if length > MAX_TEXT_BYTES or offset + length > arena.size_bytes:
            raise Malformed("a text that does not lie in the memory")
        # A copy, since the other side could change it between two looks.
        return arena.data[offset : offset + length].tobytes()

    def _array(
        self, data: bytes, small: int, told: Any, shape: Any, place: Any, offset: Any, serial: Any
    ) -> Array:
        dtype = _dtype(told) if type(told) is str else _structure(told)
        if len(shape) > MAX_RANK or not all(type(dim) is int and dim >= 0 for dim in shape):
            raise Malformed("a shape that is none")
        if type(offset) is not int or offset < 0 or type(serial) is not int:
            raise Malformed("an offset that is none")
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size == 0:
            return np.zeros(shape, dtype)
        if place == HERE:
            if small + offset + size > len(data):
                raise Malformed("an array that does not lie in its message")
            return np.frombuffer(data, dtype, count, small + offset).reshape(shape)
        arena = self._readable.get(place)
        if arena is None or offset + size > arena.size_bytes:
            raise Malformed("an array that does not lie in the memory")
        part = arena.data[offset : offset + size]
        borrowed = _Borrowed(part, self._let_go.append)
        borrowed.serial = serial
        self._borrowed[id(borrowed)] = borrowed
        # Through a memoryview: numpy would refer to the whole memory past `part` otherwise.
        return np.frombuffer(part.data.toreadonly(), dtype).reshape(shape)


def _text(parts: list[Any]) -> bytes:
    try:
        return _ENCODER.encode(parts).encode()
    except RecursionError:
        raise CannotCarry("a value that is nested too deeply") from None


def _dtype_told(dtype: np.dtype[Any]) -> Any:
    if dtype.names is None and dtype.subdtype is None and dtype.kind in _PLAIN_KINDS:
        return dtype.str
    if dtype.names is not None and np.dtype(dtype.descr) == dtype:
        return pack(dtype.descr, lambda array: 0)
    raise CannotCarry(f"an array of {dtype!s:.60}")


@functools.lru_cache(maxsize=64)
def _dtype(told: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(told)
    if dtype.kind not in _PLAIN_KINDS or dtype.names is not None or dtype.hasobject:
        raise Malformed("a dtype that no frame has")
    return dtype


def _structure(told: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(unpack(told, ()))
    if dtype.hasobject:
        raise Malformed("a dtype that no frame has")
    return dtype
