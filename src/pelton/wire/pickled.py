"""Pickles as data: values and numpy arrays in, values and numpy arrays out, and never code.

A pickle is a program, and the standard library's unpickler runs it: even held to a short list of
harmless names it can be made to crash, to read foreign memory, or to change the process for every
later client. Pelton reads the same bytes with a reader of its own that can only make plain data:

    body -> frame taken apart     pickle_frame.py      a bare pickle, or one with its buffers
         -> opcodes to records    pickle_machine.py    the state: stack, memo, place in the bytes
                                  pickle_actions.py    what each opcode does
                                  pickle_globals.py    the few names, as tokens
                                  pickle_records.py    what the opcodes leave
         -> records to values     pickle_values.py     a tree within a budget
                                  pickle_arrays.py     dtypes, arrays, scalars

    value -> chunks               pickle_encode.py     what the standard library reads
                                  pickle_again.py      what was written before

Arrays are read-only views of the body, so decoding takes the same time whatever their size. What
is accepted is written down in `docs/wire.md`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pelton.messages import Value
from pelton.wire import pickle_frame
from pelton.wire.limits import Limits
from pelton.wire.pickle_actions import run
from pelton.wire.pickle_again import written_again
from pelton.wire.pickle_encode import Writer
from pelton.wire.pickle_machine import MAX_PROTOCOL, Machine
from pelton.wire.pickle_records import refusal
from pelton.wire.pickle_values import Builder

_REMEMBERED_BYTES = 2048
"""Pickles in frames are remembered up to this size, since a robot sends the same one each time:
its pictures and states lie beside it. The builder does not change the records."""

_MARKS_OF_AN_ARRAY = 3
"""MARKs that are open within an array: its own state, its dtype's, and that of a time's unit."""


@dataclass(frozen=True, slots=True)
class PickleStyle:
    """How a client pickles, so that it is answered in words that it can read.

    Attributes:
        protocol: 2 to 5, as the client wrote.
        old_numpy: whether private modules are spelled `numpy.core`, as numpy 1.x does; also True
            where the client named none, because numpy 2.x reads both spellings.
        out_of_band: whether the body was a frame with separate buffers; only with protocol 5.
    """

    protocol: int
    old_numpy: bool
    out_of_band: bool


def decode(body: bytes | bytearray | memoryview, limits: Limits) -> tuple[Value, PickleStyle]:
    """Read a pickle, or a frame that holds one, without running any of it.

    Args:
        body: the whole body, contiguous. Arrays in the result view it, so it must not change
            while they live.
        limits: `max_pickle_ops` bounds opcodes and values, `max_json_depth` nesting, and
            `max_body_bytes` all bytes of the value, each counted as often as it is referred to.

    Returns:
        The value, and the style in which to answer. Arrays are read-only and possibly not
        aligned; other containers and bytes are the caller's own.

    Raises:
        InvalidRequest: the bytes are no pickle of plain data (`MALFORMED_REQUEST`), an array's
            shape is none (`INVALID_INPUT`), or a limit is passed (`TOO_LARGE`). The message
            begins with `pickle: ` and names what was refused.
    """
    stream = memoryview(body).toreadonly().cast("B")
    buffers: list[memoryview] = []
    out_of_band = pickle_frame.is_frame(stream)
    if out_of_band:
        stream, buffers = pickle_frame.split(stream)
    if out_of_band and len(stream) <= _REMEMBERED_BYTES:
        record, protocol, old_numpy = _remembered(bytes(stream), len(buffers), limits)
    else:
        record, protocol, old_numpy = _read(stream, len(buffers), limits)
    if out_of_band and protocol != MAX_PROTOCOL:
        raise refusal(f"a frame holds a pickle of protocol {MAX_PROTOCOL}, not {protocol}")
    try:
        value = Builder(limits, buffers).build(record)
    except RecursionError:
        raise refusal("nested deeper than Python can follow") from None
    return value, PickleStyle(protocol, old_numpy, out_of_band)


def _read(
    stream: bytes | memoryview, buffer_count: int, limits: Limits
) -> tuple[object, int, bool]:
    """Turn opcodes into records; return these, the protocol, and whether numpy is an old one."""
    marks = limits.max_json_depth + _MARKS_OF_AN_ARRAY
    machine = Machine(memoryview(stream), buffer_count, marks)
    record = run(machine, limits.max_pickle_ops)
    return record, machine.protocol, not machine.new_numpy


_remembered = functools.lru_cache(maxsize=64)(_read)


def encode(value: Value, style: PickleStyle) -> list[bytes | memoryview]:
    """Write a pickle that the client's own `pickle.loads` reads.

    Args:
        value: None, bool, int, float, complex, str, bytes, bytearray, lists, tuples, sets and
            dicts of such, numpy arrays and scalars. An array of Python objects, as tensors of
            text are, becomes nested lists.
        style: as `decode` returned it.

    Returns:
        Chunks to be written one after the other. The memory of big arrays is not copied, so they
        must not change before it is written.

    Raises:
        TypeError: the value holds something else; the message names its type.
    """
    if style.out_of_band:
        known = written_again(value, style.old_numpy)
        if known is not None:
            return pickle_frame.join([known[0]], known[1])
    writer = Writer(style.protocol, style.old_numpy, lend_buffers=style.out_of_band)
    writer.value(value)
    chunks = writer.finish()
    return pickle_frame.join(chunks, writer.buffers) if style.out_of_band else chunks
