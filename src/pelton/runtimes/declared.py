"""What is declared of inputs and outputs, held against the model's file and what a run gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pelton.errors import LoadFailed, ModelFailed
from pelton.messages import Value
from pelton.specs import ModelSpec, TensorSpec
from pelton.tensors import DATATYPES

Kind = Literal["input", "output"]


def declared(model: ModelSpec, kind: Kind) -> tuple[TensorSpec, ...]:
    """Return what is declared of a model's inputs or outputs."""
    return model.inputs if kind == "input" else model.outputs


def reconcile(told: Sequence[TensorSpec], model: ModelSpec, kind: Kind) -> tuple[TensorSpec, ...]:
    """Return the tensors as the file tells them, with the shapes that are declared.

    A declaration may leave tensors out and may narrow a size that the file leaves open; it may
    not contradict the file.

    Args:
        told: what the file tells, in its order.
        model: what is declared of it; may be nothing.
        kind: which of its tensors these are.

    Raises:
        LoadFailed: a declaration does not fit the file.
    """
    by_name = {spec.name: spec for spec in told}
    file = model.declared_in.get(kind, "model.toml")
    for spec in declared(model, kind):
        own = by_name.get(spec.name)
        if own is None:
            raise LoadFailed(
                f"{file} declares the {kind} {spec.name!r:.80}, but the model has "
                f"{', '.join(by_name) or 'none'}"
            )
        if spec.datatype != own.datatype or not _narrows(spec.shape, own.shape):
            raise LoadFailed(
                f"{file} declares the {kind} {spec.name!r} as {spec.datatype} "
                f"{list(spec.shape)}, but in the model it is {own.datatype} {list(own.shape)}"
            )
        by_name[spec.name] = spec
    return tuple(by_name.values())


def _narrows(shape: Sequence[int], own: Sequence[int]) -> bool:
    return len(shape) == len(own) and all(
        want in (size, -1) for size, want in zip(shape, own, strict=True)
    )


def check_output(value: Value, spec: TensorSpec) -> None:
    """Hold what a run gave against what the model declares; takes less than a microsecond.

    Clients rely on the declaration, and a version that breaks it must count as one that fails.

    Args:
        value: the output.
        spec: its declaration.

    Raises:
        ModelFailed: it is no array, or has another datatype, another number of axes, or another
            size along one.
    """
    is_array = isinstance(value, np.ndarray)
    if not is_array or value.dtype != DATATYPES[spec.datatype].dtype:
        found = value.dtype if is_array else f"a {type(value).__name__}"
        raise ModelFailed(
            f"the model's output {spec.name!r:.80} is {found!s:.40}, but it is declared as "
            f"{spec.datatype}"
        )
    if len(value.shape) == len(spec.shape):
        for size, want in zip(value.shape, spec.shape, strict=True):
            if size != want and want != -1:
                break
        else:
            return
    raise ModelFailed(
        f"the model's output {spec.name!r:.80} has shape {list(value.shape)}, but it is declared "
        f"with {list(spec.shape)}"
    )
