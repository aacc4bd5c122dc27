"""A model's answer, for people and for programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from pelton.cli.asking import printable
from pelton.errors import InvalidRequest
from pelton.messages import InferResponse, Value
from pelton.tensors import Array, datatype_name
from pelton.wire import strict_json


def for_programs(response: InferResponse) -> str:
    """Write an answer as JSON, in the form of the Open Inference Protocol."""
    outputs = [
        {
            "name": name,
            "datatype": datatype_name(array),
            "shape": array.shape,
            "data": _plain(array.ravel()),
        }
        for name, array in response.outputs.items()
    ]
    said = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    return strict_json.dumps(said).decode()


def value_for_programs(value: Value) -> str:
    """Write what an object model returned as JSON."""
    return strict_json.dumps({"output": _plain(value)}).decode()


def for_people(response: InferResponse) -> str:
    """Write an answer with datatypes, shapes, ranges and the first values."""
    title = printable(f"{response.model}, version {response.version}")
    return "\n".join([title, *(_tensor(name, each) for name, each in response.outputs.items())])


def value_for_people(value: Value) -> str:
    """Write what an object model returned; arrays as in `for_people`."""
    if isinstance(value, dict):
        return "\n".join(_named(str(name), each) for name, each in value.items())
    return _named("output", value)


def _named(name: str, value: Value) -> str:
    return (
        _tensor(name, value) if isinstance(value, np.ndarray) else f"{printable(name)}  {value!r}"
    )


def _tensor(name: str, array: Array) -> str:
    kind = _datatype(array)
    shown = np.array2string(array, precision=6, suppress_small=True, threshold=64, prefix="  ")
    return f"{printable(name)}  {kind} {list(array.shape)}{_range(array)}\n  {shown}"


def _datatype(array: Array) -> str:
    try:
        return datatype_name(array)
    except InvalidRequest:
        return str(array.dtype)


def _range(array: Array) -> str:
    if array.size < 2 or array.dtype.kind not in "iuf":
        return ""
    wide = array.astype(np.float64)
    return f"  min {wide.min():.6g}  max {wide.max():.6g}  mean {wide.mean():.6g}"


def _plain(value: Any) -> Any:
    """Replace what JSON has no word for: bytes that are no text are shown with escapes."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value
