"""Pickles that are written again and again: flat dicts of text and arrays.

That is what a robot sends and what it is answered, `{"instruction": ..., "image": ...}` and
`{"status": "ok", "output": ...}`. With the memory of the arrays outside, the opcodes are the
same each time, so they are remembered by the keys, the texts, and what the arrays look like.
"""

from __future__ import annotations

import numpy as np

from pelton.messages import Value
from pelton.wire.pickle_encode import Writer, contiguous
from pelton.wire.pickle_frame import MAX_BUFFERS

REMEMBERED = 128
"""How many pickles are remembered before all are forgotten."""

_MAX_TEXT_CHARS = 200
_PROTOCOL = 5

_known: dict[tuple[object, ...], bytes] = {}


def written_again(value: Value, old_numpy: bool) -> tuple[bytes, list[memoryview]] | None:
    """Return the pickle of a flat dict, and the memory that it leaves outside.

    Args:
        value: any value.
        old_numpy: how numpy's private modules are spelled.

    Returns:
        None where the value is anything else, for the writer to write in full.

    Raises:
        TypeError: an array's dtype cannot be written.
    """
    if type(value) is not dict or len(value) > MAX_BUFFERS:
        return None
    key: list[object] = [old_numpy]
    buffers: list[memoryview] = []
    for name, item in value.items():
        kind = type(item)
        if type(name) is not str or len(name) > _MAX_TEXT_CHARS:
            return None
        if kind is np.ndarray and item.dtype.itemsize and _is_plain(item.dtype):
            order, memory = contiguous(item)
            buffers.append(memory)
            key += (name, item.dtype, item.shape, order)
        elif kind is str and len(item) <= _MAX_TEXT_CHARS:
            key += (name, item)
        else:
            return None
    return _opcodes(tuple(key), value, old_numpy, len(buffers)), buffers


def _is_plain(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind != "O" and not dtype.metadata


def _opcodes(
    key: tuple[object, ...], value: dict[str, Value], old_numpy: bool, buffers: int
) -> bytes:
    opcodes = _known.get(key)
    if opcodes is None:
        writer = Writer(_PROTOCOL, old_numpy, lend_buffers=True)
        writer.value(value)
        opcodes = b"".join(writer.finish())
        assert len(writer.buffers) == buffers
        if len(_known) >= REMEMBERED:
            _known.clear()
        _known[key] = opcodes
    return opcodes
