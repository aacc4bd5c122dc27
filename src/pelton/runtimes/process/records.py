"""The records that a worker and the server tell each other, as plain values and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.values import Malformed
from pelton.specs import ModelMetadata, ModelSpec, TensorSpec
from pelton.tensors import DATATYPES


def told(value: Any) -> Any:
    """Return a record, with all that it holds, as plain values: a dict by field."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: told(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {key: told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(told(item) for item in value)
    return str(value) if isinstance(value, Path) else value


_NOT_FOR_WORKERS = ("policy", "version_labels", "pinned", "digest", "golden")
"""What a spec says of keeping its model and not of running it."""


def spec_told(spec: ModelSpec) -> dict[str, Any]:
    """Return what a worker must know of a spec, as plain values."""
    return {
        field.name: told(getattr(spec, field.name))
        for field in dataclasses.fields(spec)
        if field.name not in _NOT_FOR_WORKERS
    }


def spec_of(value: Any) -> ModelSpec:
    """Return the spec that `spec_told` told; a worker trusts it."""
    tensors = {side: _tensors(value[side]) for side in ("inputs", "outputs")}
    return ModelSpec(**{**value, **tensors, "path": Path(value["path"])})


def options_of(value: Any) -> RuntimeOptions:
    """Return the options that the server told."""
    return RuntimeOptions(**value)


def metadata_of(value: Any) -> ModelMetadata:
    """Return the metadata that a worker told.

    Raises:
        Malformed: it is none.
    """
    try:
        tensors = {side: _tensors(value[side]) for side in ("inputs", "outputs")}
        metadata = ModelMetadata(**{**value, **tensors})
        sound = all(map(_is_sound, (*metadata.inputs, *metadata.outputs)))
    except (TypeError, KeyError, ValueError) as error:
        raise Malformed("metadata that is none") from error
    if not sound:
        raise Malformed("a tensor in the metadata that is none")
    return metadata


def _is_sound(spec: TensorSpec) -> bool:
    sizes_are_sound = all(type(size) is int and size >= -1 for size in spec.shape)
    return type(spec.name) is str and spec.datatype in DATATYPES and sizes_are_sound


def _tensors(values: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**{**each, "shape": tuple(each["shape"])}) for each in values)
