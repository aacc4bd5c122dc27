"""The one table of tensor element types, and the one check of shape against bytes.

A tensor is a numpy array everywhere inside Pelton. On the wire it has an Open Inference
Protocol datatype name. Two names need a word:

* `BYTES` is an object array of `bytes`; each element has its own length on the wire.
* `BF16` has no numpy type. It travels as two bytes and computes as `float32`, which holds
  every bfloat16 exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pelton.errors import InvalidRequest

Array = npt.NDArray[np.generic]

MAX_RANK = 32
"""Largest number of dimensions that a tensor may have (numpy 1.x allows no more)."""

MAX_DIM = 2**63 - 1
"""Largest size of one dimension: what an int64 of the protocol holds."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the table.

    Attributes:
        name: Open Inference Protocol name, such as `FP32`.
        dtype: numpy type of the array in memory, little-endian.
        wire_bytes: bytes per element on the wire; None where each element has its own length.
        in_json: whether the protocol can write the type as JSON data.
        as_it_lies: whether the bytes of the wire are the array's own, whatever they are.
    """

    name: str
    dtype: np.dtype[np.generic]
    wire_bytes: int | None
    in_json: bool = True
    as_it_lies: bool = True


DATATYPES: dict[str, Datatype] = {
    row.name: row
    for row in (
        Datatype("BOOL", np.dtype(np.bool_), 1, as_it_lies=False),
        Datatype("UINT8", np.dtype("<u1"), 1),
        Datatype("UINT16", np.dtype("<u2"), 2),
        Datatype("UINT32", np.dtype("<u4"), 4),
        Datatype("UINT64", np.dtype("<u8"), 8),
        Datatype("INT8", np.dtype("<i1"), 1),
        Datatype("INT16", np.dtype("<i2"), 2),
        Datatype("INT32", np.dtype("<i4"), 4),
        Datatype("INT64", np.dtype("<i8"), 8),
        Datatype("FP16", np.dtype("<f2"), 2, in_json=False),
        Datatype("FP32", np.dtype("<f4"), 4),
        Datatype("FP64", np.dtype("<f8"), 8),
        Datatype("BF16", np.dtype("<f4"), 2, in_json=False, as_it_lies=False),
        Datatype("BYTES", np.dtype(np.object_), None, as_it_lies=False),
    )
}

_NAME_OF: dict[np.dtype[np.generic], str] = {
    row.dtype: row.name for row in DATATYPES.values() if row.name != "BF16"
}


def datatype(name: object) -> Datatype:
    """Look up a datatype by its protocol name.

    Raises:
        InvalidRequest: the name is not one of the protocol's.
    """
    row = DATATYPES.get(name) if isinstance(name, str) else None
    if row is None:
        raise InvalidRequest(f"unknown datatype {name!r:.40}; known are {', '.join(DATATYPES)}")
    return row


def datatype_name(array: Array) -> str:
    """Return the protocol name for an array's dtype; text and bytes arrays are `BYTES`.

    Raises:
        InvalidRequest: the dtype has no name in the protocol (complex, datetime, structured).
    """
    name = _NAME_OF.get(array.dtype)
    if name is None and array.dtype.kind in "SU":
        return "BYTES"
    if name is None:
        name = _NAME_OF.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise InvalidRequest(f"an array of {array.dtype} has no datatype in the protocol")
    return name


def element_count(shape: Sequence[object], what: str) -> int:
    """Check a shape that came from outside and return how many elements it names.

    The product is taken on Python integers: numpy's own wraps around silently.

    Args:
        shape: the dimensions as they came, possibly of the wrong types.
        what: how the error shall name the tensor, such as `input 'image'`.

    Raises:
        InvalidRequest: too many dimensions, or one that is no integer in 0..2**63-1.
    """
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"{what} has {len(shape)} dimensions; at most {MAX_RANK} are allowed")
    dims: list[int] = []
    for dim in shape:
        if type(dim) is not int or not 0 <= dim <= MAX_DIM:
            raise InvalidRequest(
                f"{what}: dimension {dim!r:.40} is not an integer from 0 to 2**63-1"
            )
        dims.append(dim)
    return math.prod(dims)


def check_byte_count(row: Datatype, count: int, actual_bytes: int, what: str) -> None:
    """Check that `count` elements of a fixed-size datatype take exactly `actual_bytes`.

    Raises:
        InvalidRequest: they do not; the message gives both numbers.
    """
    assert row.wire_bytes is not None, "BYTES has no fixed size"
    expected = count * row.wire_bytes
    if expected != actual_bytes:
        raise InvalidRequest(
            f"{what}: its shape and {row.name} need {expected} bytes, but {actual_bytes} came"
        )
