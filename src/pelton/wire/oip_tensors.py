"""One tensor of the Open Inference Protocol: its elements as bytes or as JSON, both ways.

Server and client use the same four functions. Binary form (Triton's binary tensor data
extension): little-endian, row-major, no padding; BOOL is one byte, 0 or 1; BF16 two bytes; each
element of BYTES is its length as a little-endian uint32 and then that many bytes. JSON form: a
flat list in row-major order; FP16 and BF16 have none.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from pelton import bfloat16
from pelton.errors import Code, InvalidRequest
from pelton.tensors import Array, Datatype
from pelton.wire.array_bytes import Buffer, array_of, bytes_of, shaped
from pelton.wire.element_lists import bytes_array, object_array, typed_array

_LENGTH = struct.Struct("<I")
_BYTES_OBJECT_BYTES = 48
"""What one element of BYTES costs in memory beside its own bytes: a reference and a header."""


def expanded_bytes(row: Datatype, count: int, wire_bytes: int) -> int:
    """Return how much memory a tensor takes once it is an array.

    Args:
        row: its datatype.
        count: number of elements.
        wire_bytes: size as it came, where it came as bytes; 0 where it came as JSON.
    """
    if row.wire_bytes is None:
        return count * _BYTES_OBJECT_BYTES + wire_bytes
    return count * row.dtype.itemsize


def decode_binary(row: Datatype, shape: tuple[int, ...], raw: memoryview, what: str) -> Array:
    """Make an array of a tensor's bytes; see `array_bytes.array_of` for when it is a view.

    Args:
        row: its datatype.
        shape: its dimensions, already compared with the number of bytes.
        raw: its bytes.
        what: how the error shall name the tensor.

    Returns:
        A read-only array of `row.dtype`; for BYTES, of objects that are copies.

    Raises:
        InvalidRequest: a BOOL is neither 0 nor 1; or the lengths of BYTES elements do not add up.
    """
    if row.wire_bytes is None:
        return _read_only(shaped(_split(raw, math.prod(shape), what), shape, what))
    if row.name == "BF16":
        wide = bfloat16.widen(array_of(raw, np.dtype("<u2"), shape, what))
        return _read_only(wide)
    if row.name == "BOOL":
        octets = array_of(raw, np.dtype(np.uint8), shape, what)
        if octets.size and octets.max() > 1:
            raise InvalidRequest(f"{what}: a BOOL is one byte, 0 or 1; there is a {octets.max()}")
        return octets.view(np.bool_)
    return array_of(raw, row.dtype, shape, what)


def encode_binary(row: Datatype, array: Array, what: str) -> Buffer:
    """Return a tensor's bytes, a view of the array where it lies as the protocol wants it.

    Args:
        row: the datatype under which it is sent; the array must be of its dtype.
        array: any layout and byte order.
        what: how the error shall name the tensor.

    Raises:
        InvalidRequest: an element of BYTES is neither text nor bytes.
    """
    if row.wire_bytes is None:
        elements = bytes_array(array.ravel().tolist(), what).tolist()
        return b"".join(part for each in elements for part in (_LENGTH.pack(len(each)), each))
    if row.name == "BF16":
        return bytes_of(bfloat16.narrow(array))
    return bytes_of(array)


def decode_json(row: Datatype, shape: tuple[int, ...], elements: list[Any], what: str) -> Array:
    """Make an array of a tensor's JSON data.

    Args:
        row: its datatype.
        shape: its dimensions, already compared with the number of elements.
        elements: its elements in row-major order.
        what: how the error shall name the tensor.

    Raises:
        InvalidRequest: the datatype has no JSON form, or an element does not belong to it.
    """
    if not row.in_json:
        raise InvalidRequest(f"{what}: {row.name} has no JSON form; send it as binary data")
    return _read_only(shaped(typed_array(elements, row, what), shape, what))


def encode_json(row: Datatype, array: Array, what: str) -> list[Any]:
    """Return a tensor's elements for JSON, in row-major order.

    Raises:
        InvalidRequest: the datatype has no JSON form, or an element of BYTES is not UTF-8 text.
    """
    if not row.in_json:
        raise InvalidRequest(f"{what}: {row.name} has no JSON form; ask for binary data")
    elements: list[Any] = array.ravel().tolist()
    if row.wire_bytes is not None:
        return elements
    try:
        return [each.decode("utf-8") for each in bytes_array(elements, what).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} is not UTF-8 text; ask for binary data") from error


def _split(raw: memoryview, count: int, what: str) -> Array:
    data = bytes(raw)
    elements: list[bytes] = []
    at, total = 0, len(data)
    for _ in range(count):
        start = at + 4
        if start > total:
            raise _lengths_lie(what, count)
        at = start + _LENGTH.unpack_from(data, at)[0]
        elements.append(data[start:at])
    if at != total:
        raise _lengths_lie(what, count)
    return object_array(elements)


def _lengths_lie(what: str, count: int) -> InvalidRequest:
    return InvalidRequest(
        f"{what}: its bytes are not {count} elements, each a length and as many bytes",
        Code.MALFORMED_REQUEST,
    )


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
