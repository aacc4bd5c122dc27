"""Inputs and outputs that `model.toml` declares, held against what the model's file tells."""

from __future__ import annotations

from collections.abc import Sequence

from pelton.errors import LoadFailed
from pelton.specs import TensorSpec


def reconcile(
    told: Sequence[TensorSpec], declared: Sequence[TensorSpec], kind: str
) -> tuple[TensorSpec, ...]:
    """Return the tensors as the file tells them, with the shapes that are declared.

    A declaration may leave tensors out and may narrow a size that the file leaves open; it may
    not contradict the file.

    Args:
        told: what the file tells, in its order.
        declared: what `model.toml` declares; may be empty.
        kind: `input` or `output`, for the message.

    Raises:
        LoadFailed: a declaration does not fit the file.
    """
    by_name = {spec.name: spec for spec in told}
    for spec in declared:
        own = by_name.get(spec.name)
        if own is None:
            raise LoadFailed(
                f"model.toml declares the {kind} {spec.name!r:.80}, but the model has "
                f"{', '.join(by_name) or 'none'}"
            )
        if spec.datatype != own.datatype or not _narrows(spec.shape, own.shape):
            raise LoadFailed(
                f"model.toml declares the {kind} {spec.name!r} as {spec.datatype} "
                f"{list(spec.shape)}, but in the model it is {own.datatype} {list(own.shape)}"
            )
        by_name[spec.name] = spec
    return tuple(by_name.values())


def _narrows(shape: Sequence[int], own: Sequence[int]) -> bool:
    return len(shape) == len(own) and all(
        want in (size, -1) for size, want in zip(shape, own, strict=True)
    )
