"""The users' endpoint: a decoded value as a model's inputs, and a response as a value.

The same for pickle, JSON and MessagePack. An object model gets the caller's dict as it is. A
tensor model gets arrays of the datatypes that it declares, made by one rule: a value is
converted where no number changes, save that a float type rounds to its precision. So a float64
array fits FP32, a list of integers fits any type that holds them all, a uint8 image fits FP32;
300 is no UINT8, 1.5 and 1.0 are no INT32, `true` is no number, text fits only BYTES.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pelton.errors import InvalidRequest
from pelton.messages import InferResponse, Value
from pelton.specs import ModelMetadata, TensorSpec
from pelton.tensors import DATATYPES, Array, Datatype, element_count
from pelton.wire.element_lists import bytes_array, flatten, typed_array


def to_inputs(value: Value, metadata: ModelMetadata) -> dict[str, Value]:
    """Turn what a caller sent into a model's inputs.

    Args:
        value: a dict by input name; for a tensor model with one input also the bare array,
            number, or nested list.
        metadata: of the model that is asked.

    Returns:
        Input name -> value; for a tensor model, an array of the declared datatype. Shapes stay
        as they were sent, and missing inputs are the engine's to find.

    Raises:
        InvalidRequest: the value is no dict where one is needed, names an input that the model
            does not have, or holds something that is no element of the declared datatype.
    """
    if metadata.takes_objects:
        return _named(value, metadata)
    if not isinstance(value, dict):
        if len(metadata.inputs) != 1:
            raise InvalidRequest(
                f"model {metadata.name!r} takes a dict with {_names(metadata)}, "
                f"not a {type(value).__name__}"
            )
        (spec,) = metadata.inputs
        return {spec.name: _tensor(value, spec)}
    specs = {spec.name: spec for spec in metadata.inputs}
    inputs = _named(value, metadata)
    for name in inputs:
        if name not in specs:
            raise InvalidRequest(
                f"model {metadata.name!r} has no input {name!r:.60}; it takes {_names(metadata)}"
            )
    return {name: _tensor(each, specs[name]) for name, each in inputs.items()}


def reply_value(response: InferResponse) -> dict[str, Value]:
    """Return the users' reply: `{"status": "ok", "output": ...}`.

    A model with one output gives its bare value, any other a dict by output name.
    """
    outputs = response.outputs
    output = next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
    return {"status": "ok", "output": output}


def error_value(message: str) -> dict[str, Value]:
    """Return the users' reply to a request that failed."""
    return {"status": "error", "message": message}


def _named(value: Value, metadata: ModelMetadata) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"model {metadata.name!r} takes a dict by name, not a {type(value).__name__}"
        )
    for key in value:
        if not isinstance(key, str):
            raise InvalidRequest(f"the key {key!r:.60} is no text, so it names no input")
    return value


def _names(metadata: ModelMetadata) -> str:
    return ", ".join(spec.name for spec in metadata.inputs[:16]) or "no inputs"


def _tensor(value: Value, spec: TensorSpec) -> Array:
    what = f"input {spec.name!r}"
    row = DATATYPES[spec.datatype]
    if isinstance(value, np.ndarray | np.generic):
        return _converted(np.asarray(value), row, what)
    nested = value if isinstance(value, list | tuple) else [value]
    elements, shape = flatten(nested, what)
    element_count(shape, what)
    if any(isinstance(each, np.generic) for each in elements):
        elements = [each.item() if isinstance(each, np.generic) else each for each in elements]
    array = typed_array(elements, row, what)
    return array.reshape(shape if nested is value else ())


def _converted(array: Array, row: Datatype, what: str) -> Array:
    if array.dtype == row.dtype and row.wire_bytes is not None:
        return array
    refused = InvalidRequest(
        f"{what}: an array of {array.dtype} does not fit {row.name}; "
        f"send {row.dtype if row.wire_bytes else 'text'}"
    )
    if row.wire_bytes is None:
        if array.dtype.kind not in "OSU":
            raise refused
        return bytes_array(array.ravel().tolist(), what).reshape(array.shape)
    if array.dtype.kind not in _CONVERTIBLE[row.dtype.kind]:
        raise refused
    with np.errstate(over="ignore"):
        converted = array.astype(row.dtype)
    if not np.can_cast(array.dtype, row.dtype) and _out_of_range(array, converted):
        raise InvalidRequest(
            f"{what}: the array of {array.dtype} holds numbers that {row.name} cannot hold"
        )
    return converted


_CONVERTIBLE = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
"""Kind of the declared dtype -> kinds of arrays that may be converted to it."""


def _out_of_range(before: Any, after: Any) -> bool:
    if after.dtype.kind == "f":
        return bool((np.isinf(after) & np.isfinite(before)).any())
    allowed = np.iinfo(after.dtype)
    return before.size > 0 and not allowed.min <= before.min() <= before.max() <= allowed.max
