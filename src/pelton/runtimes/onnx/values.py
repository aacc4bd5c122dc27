"""Pelton's arrays to what onnxruntime takes, and what it gives to arrays."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pelton.bfloat16 import narrow, widen
from pelton.errors import InvalidRequest
from pelton.specs import TensorSpec
from pelton.tensors import Array

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
"""onnxruntime's name of a type -> the protocol's."""

_ONNX_BFLOAT16 = 16
"""`TensorProto.DataType.BFLOAT16`."""

Convert = Callable[[Any], Any]


def feeder(spec: TensorSpec) -> Convert:
    """Return what turns an array for this input into what onnxruntime takes."""
    if spec.datatype == "BYTES":
        return lambda array: _to_text(array, spec.name)
    return _to_bfloat16 if spec.datatype == "BF16" else _aligned


def reader(spec: TensorSpec, classes: Sequence[str] | None) -> Convert | None:
    """Return what turns onnxruntime's value of this output into an array; None if it is one.

    Args:
        spec: the output.
        classes: for an output that is a map from class to score per row, the classes in order.
    """
    if classes is not None:
        return lambda rows: _to_table(rows, classes)
    return _to_bytes if spec.datatype == "BYTES" else None


def as_ort_value(array: Any) -> Any:
    """Return an `onnxruntime.OrtValue` over an array, or the value itself if it is one."""
    import onnxruntime

    if isinstance(array, onnxruntime.OrtValue):
        return array
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def from_ort_value(value: Any) -> Any:
    """Return an `onnxruntime.OrtValue` on the CPU as an array; bfloat16 becomes float32."""
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    shape = tuple(value.shape())
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, np.float32)
    # The value offers its bits only by address; `widen` copies them while it is alive.
    bits = np.ctypeslib.as_array((ctypes.c_uint16 * count).from_address(value.data_ptr()))
    return widen(bits).reshape(shape)


def _aligned(array: Array) -> Array:
    return array if array.flags.aligned else array.copy()


def _to_text(array: Array, name: str) -> Array:
    """Return an object array of str, which is what onnxruntime takes for text."""
    text = np.empty(array.shape, np.object_)
    flat = text.reshape(-1)
    for place, item in enumerate(array.reshape(-1).tolist()):
        try:
            flat[place] = item if isinstance(item, str) else item.decode()
        except (UnicodeDecodeError, AttributeError):
            raise InvalidRequest(
                f"input {name!r}: element {place} is not UTF-8 text, and this model takes text"
            ) from None
    return text


def _to_bytes(array: Array) -> Array:
    raw = np.empty(array.shape, np.object_)
    raw.reshape(-1)[:] = [item.encode() for item in array.reshape(-1).tolist()]
    return raw


def _to_table(rows: Sequence[Mapping[Any, float]], classes: Sequence[str]) -> Array:
    """Turn the maps of a `ZipMap` back into the table of scores that it was made of."""
    by_name = [{str(key): score for key, score in row.items()} for row in rows]
    scores = [[row[name] for name in classes] for row in by_name]
    return np.array(scores, np.float32).reshape(len(rows), len(classes))


def _to_bfloat16(array: Array) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(narrow(array), _ONNX_BFLOAT16)
