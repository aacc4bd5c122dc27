"""The frame that carries a pickle together with its out-of-band buffers.

A pickle of protocol 5 may leave the memory of its arrays outside; the frame puts both into one
body, each buffer at an aligned offset, so that a receiver can use it where it lies:

    offset         bytes  what
    0                  8  magic, `PELTON5B`
    8                  2  version, u16 = 1
    10                 2  flags, u16 = 0
    12                 4  n, number of buffers, u32
    16                 8  length of the pickle, u64
    24               8 n  length of each buffer, u64
    24 + 8 n              the pickle
    next multiple         buffer 0, and so on: before each one, zeros up to the next multiple of 64
    of 64

Integers are little-endian; offsets count from the first byte of the magic; the body ends with the
last byte of the last buffer (of the pickle where there is none). `docs/wire.md` has the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from pelton.wire.pickle_records import refusal

MAGIC = b"PELTON5B"
"""First bytes of a frame; a pickle of protocol 2 to 5 begins with 0x80 instead."""

VERSION = 1
MAX_BUFFERS = 1024
ALIGNMENT_BYTES = 64

_HEAD = struct.Struct("<8sHHIQ")
_ZEROS = bytes(ALIGNMENT_BYTES)


def is_frame(body: memoryview) -> bool:
    """Tell whether a body begins as a frame does."""
    return body[: len(MAGIC)] == MAGIC


def opcode_bytes(body: memoryview) -> int:
    """Return how long the pickle in a body says it is; buffers beside it cost no time to read."""
    if is_frame(body) and len(body) >= _HEAD.size:
        length: int = _HEAD.unpack_from(body)[-1]
        return length
    return len(body)


def split(body: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Take a frame apart, uncopied.

    Args:
        body: the whole frame, read-only bytes.

    Returns:
        The pickle, and the buffers in order.

    Raises:
        InvalidRequest: version or flags are unknown, there are too many buffers, or the lengths do
            not add up to the body.
    """
    if len(body) < _HEAD.size:
        raise refusal("the frame ends within its head")
    _, version, flags, count, length = _HEAD.unpack_from(body)
    if version != VERSION:
        raise refusal(f"frame version {version} is unknown; version {VERSION} is taken")
    if flags != 0:
        raise refusal(f"frame flags {flags:#06x} are unknown")
    if count > MAX_BUFFERS:
        raise refusal(f"a frame of {count} buffers; at most {MAX_BUFFERS} are allowed")
    end = _HEAD.size + 8 * count
    if len(body) < end:
        raise refusal("the frame ends within its head")
    lengths = struct.unpack_from(f"<{count}Q", body, _HEAD.size)
    pickle, end = _part(body, end, length)
    buffers: list[memoryview] = []
    for length in lengths:
        start = end + _padding(end)
        if bytes(body[end:start]) != _ZEROS[: start - end]:
            raise refusal("a gap in the frame is cut off or is not of zeros")
        buffer, end = _part(body, start, length)
        buffers.append(buffer)
    if end != len(body):
        raise refusal(f"{len(body) - end} bytes follow the frame")
    return pickle, buffers


def join(
    pickle: Iterable[bytes | memoryview], buffers: Sequence[memoryview]
) -> list[bytes | memoryview]:
    """Put a pickle and its buffers into a frame, uncopied.

    Args:
        pickle: the chunks of the pickle.
        buffers: at most `MAX_BUFFERS`, in the order in which the pickle takes them.

    Returns:
        Chunks to be written one after the other.
    """
    chunks = list(pickle)
    length = sum(map(len, chunks))
    head = _HEAD.pack(MAGIC, VERSION, 0, len(buffers), length)
    lengths = [len(buffer) for buffer in buffers]
    framed = [head + struct.pack(f"<{len(lengths)}Q", *lengths), *chunks]
    end = len(framed[0]) + length
    for buffer in buffers:
        gap = _ZEROS[: _padding(end)]
        framed += (gap, buffer)
        end += len(gap) + len(buffer)
    return framed


def _padding(offset: int) -> int:
    return -offset % ALIGNMENT_BYTES


def _part(body: memoryview, start: int, length: int) -> tuple[memoryview, int]:
    end = start + length
    if end > len(body):
        raise refusal(
            f"a part of {length} bytes where {max(len(body) - start, 0)} are left in the frame"
        )
    return body[start:end], end
