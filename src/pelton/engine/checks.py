"""Compares what a request brings with what the model declares, before the model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pelton.errors import InvalidRequest
from pelton.messages import Value
from pelton.specs import ModelMetadata, TensorSpec
from pelton.tensors import DATATYPES, Array, datatype_name


def checked_inputs(inputs: Mapping[str, Value], metadata: ModelMetadata) -> Mapping[str, Value]:
    """Return the inputs as the model's runtime wants them.

    Args:
        inputs: input name -> value, as decoded.
        metadata: what the model declares.

    Returns:
        For a tensor model, exactly the declared inputs in declared order, each a C-contiguous
        array of the declared dtype; for an object model, the inputs as they came.

    Raises:
        InvalidRequest: an input is missing, unknown, or of another datatype or shape.
    """
    if metadata.takes_objects:
        return inputs
    checked = {}
    for spec in metadata.inputs:
        value = inputs.get(spec.name)
        if value is None:
            raise InvalidRequest(
                f"input {spec.name!r} is missing; model {metadata.name!r} takes {_told(metadata)}"
            )
        checked[spec.name] = _checked(value, spec)
    if len(inputs) > len(checked):
        extra = next(name for name in inputs if name not in checked)
        raise InvalidRequest(
            f"model {metadata.name!r} has no input {extra!r:.80}; it takes {_told(metadata)}"
        )
    return checked


def _checked(value: Value, spec: TensorSpec) -> Array:
    if not isinstance(value, np.ndarray):
        raise InvalidRequest(
            f"input {spec.name!r} is a {type(value).__name__}, but the model wants an array"
        )
    wanted = DATATYPES[spec.datatype].dtype
    if value.dtype != wanted:
        if value.dtype.newbyteorder("=") != wanted:
            raise InvalidRequest(
                f"input {spec.name!r} is {datatype_name(value)}, "
                f"but the model wants {spec.datatype}"
            )
        value = value.astype(wanted)
    if not _fits(value.shape, spec.shape):
        raise InvalidRequest(
            f"input {spec.name!r} has shape {list(value.shape)}, "
            f"but the model wants {list(spec.shape)}"
        )
    return value if value.flags.c_contiguous else np.ascontiguousarray(value)


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    if len(shape) != len(declared):
        return False
    for size, want in zip(shape, declared, strict=True):
        if size != want and want != -1:
            return False
    return True


def _told(metadata: ModelMetadata) -> str:
    return ", ".join(
        f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in metadata.inputs[:16]
    )
