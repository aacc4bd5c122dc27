"""Golden requests: what a `model.toml` names becomes arrays as the model takes and gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pelton.errors import InvalidRequest, LoadFailed
from pelton.repository.arrays import ONLY, read_arrays
from pelton.specs import Golden, GoldenSource, ModelMetadata, TensorSpec
from pelton.tensors import DATATYPES, MAX_RANK, Array, Datatype, datatype_name

_ELEMENTS: Mapping[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
"""Kind of a dtype -> the Python values that are its elements; text for any other."""


def load_golden(source: GoldenSource, metadata: ModelMetadata) -> Golden:
    """Read the arrays of a golden request, and check them against what the model says of itself.

    Args:
        source: what was written in `model.toml`.
        metadata: of the loaded model. Where it declares no tensors, arrays are taken as they are,
            and nested lists as BOOL, INT64, FP64 or BYTES.

    Returns:
        The request, with C-contiguous arrays of the model's dtypes; a BYTES array has `bytes`.

    Raises:
        LoadFailed: a file is broken, a tensor is missing or unknown, or has another datatype or
            shape than the model's.
    """
    told = f"golden request {source.name!r} of model {metadata.name!r} version {metadata.version}"
    inputs = as_tensors(source.inputs, metadata.inputs, f"{told}: input")
    missing = [spec.name for spec in metadata.inputs if spec.name not in inputs]
    if missing:
        raise LoadFailed(f"{told}: there is no input {missing[0]!r:.80}")
    expected = None
    if source.expected is not None:
        expected = as_tensors(source.expected, metadata.outputs, f"{told}: output")
    return Golden(source.name, inputs, expected, **source.bounds)


def as_tensors(
    source: Path | Mapping[str, Any], specs: Sequence[TensorSpec], told: str
) -> dict[str, Array]:
    """Return arrays that a file or nested lists hold, as tensors of a model.

    Args:
        source: the file, or nested lists by name.
        specs: the tensors that there may be; empty for any.
        told: begins every message, and ends in what the tensors are, such as `input`.

    Raises:
        LoadFailed: the file is broken, or a tensor is unknown or does not fit.
    """
    if isinstance(source, Path):
        values = read_arrays(source, f"{told}: {source.name!r:.120}")
    else:
        values = source
    if ONLY in values:
        if len(specs) != 1:
            raise LoadFailed(
                f"{told}: a .npy holds one array without a name, and the model has {len(specs)} "
                f"{told.rpartition(' ')[2]}s; save them as .npz"
            )
        values = {specs[0].name: values[ONLY]}
    by_name = {spec.name: spec for spec in specs}
    tensors = {}
    for name, value in values.items():
        if specs and name not in by_name:
            raise LoadFailed(f"{told} {name!r:.80} is unknown; the model has {_listed(by_name)}")
        try:
            tensors[name] = _tensor(value, by_name.get(name))
        except ValueError as error:
            raise LoadFailed(f"{told} {name!r:.80}: {error}") from None
    return tensors


def _tensor(value: Any, spec: TensorSpec | None) -> Array:
    """Return one tensor; a ValueError says what is wrong with it."""
    row = DATATYPES[spec.datatype] if spec else None
    array = _own(value, row) if isinstance(value, np.ndarray) else _typed(value, row)
    if spec and (
        array.ndim != len(spec.shape)
        or any(want not in (-1, size) for want, size in zip(spec.shape, array.shape, strict=True))
    ):
        raise ValueError(f"its shape is {list(array.shape)}, and the model's {list(spec.shape)}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _own(array: Array, row: Datatype | None) -> Array:
    """Return an array that had a dtype of its own, which must be the model's."""
    try:
        name = datatype_name(array)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    row = row or DATATYPES[name]
    if DATATYPES[name].dtype != row.dtype:
        raise ValueError(f"it holds {name}, and the model has {row.name}; save it as such")
    if name == "BYTES":
        return _bytes(array.astype(np.object_))
    return array.astype(row.dtype, copy=False)


def _typed(value: Any, row: Datatype | None) -> Array:
    """Return nested lists as an array; no element is changed to fit, save for its precision."""
    try:
        grid = np.array(value, np.object_)
    except ValueError:
        raise ValueError("its nested lists are of unequal length or depth") from None
    kinds = set() if grid.ndim > MAX_RANK else set(map(type, grid.flat))
    if grid.ndim > MAX_RANK or kinds & {list, dict}:
        raise ValueError("its nested lists are of unequal length or depth")
    row = row or _natural(kinds)
    wrong = kinds - _ELEMENTS.get(row.dtype.kind, {str})
    if wrong:
        raise ValueError(f"a value of type {wrong.pop().__name__} is no element of {row.name}")
    if row.name == "BYTES":
        return _bytes(grid)
    return _floats(grid, row) if row.dtype.kind == "f" else _whole(grid, row)


def _natural(kinds: set[type]) -> Datatype:
    """Return the datatype of values of which no declaration says one."""
    for kind, name in ((bool, "BOOL"), (int, "INT64"), (str, "BYTES")):
        if kinds == {kind}:
            return DATATYPES[name]
    return DATATYPES["FP64"]


def _whole(grid: Array, row: Datatype) -> Array:
    if grid.size and row.dtype.kind != "b":
        allowed = np.iinfo(row.dtype.str)
        if not allowed.min <= grid.min() or not grid.max() <= allowed.max:
            raise ValueError(f"a number is out of the range of {row.name}")
    return grid.astype(row.dtype)


def _floats(grid: Array, row: Datatype) -> Array:
    try:
        wide = grid.astype(np.float64)
    except OverflowError:
        raise ValueError(f"a number is out of the range of {row.name}") from None
    with np.errstate(over="ignore"):
        array = wide.astype(row.dtype)
    if (np.isinf(array) & np.isfinite(wide)).any():
        raise ValueError(f"a number is out of the range of {row.name}")
    return array


def _bytes(grid: Array) -> Array:
    """Return an object array of text or bytes as one of bytes."""
    items = grid.ravel().tolist()
    flat = np.empty(grid.size, np.object_)
    try:
        flat[:] = [item.encode() if isinstance(item, str) else item for item in items]
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
    return flat.reshape(grid.shape)


def _listed(names: Mapping[str, object]) -> str:
    return f"{', '.join(names):.200}"
