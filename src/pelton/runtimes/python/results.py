"""What a user's function returns, as outputs by name."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pelton.errors import ModelFailed
from pelton.messages import Value
from pelton.runtimes.declared import check_output
from pelton.specs import TensorSpec
from pelton.tensors import DATATYPES, Array


def to_outputs(result: Any, declared: Sequence[TensorSpec]) -> dict[str, Value]:
    """Return the outputs of one run.

    Args:
        result: an array, a dict by output name, or any plain value.
        declared: the declared outputs; may be empty.

    Returns:
        The declared outputs in their order as arrays of their datatypes; where none are
        declared, what there is.

    Raises:
        ModelFailed: a declared output is missing, or is not what was declared.
    """
    outputs = _plain(result)
    if not isinstance(outputs, dict) or not all(isinstance(name, str) for name in outputs):
        outputs = {declared[0].name if len(declared) == 1 else "output": outputs}
    if not declared:
        return dict(outputs)
    missing = [spec.name for spec in declared if spec.name not in outputs]
    if missing:
        raise ModelFailed(
            f"the model returned {', '.join(outputs) or 'nothing':.200}, but it declares the "
            f"output {missing[0]!r:.80}"
        )
    return {spec.name: _as_declared(outputs[spec.name], spec) for spec in declared}


def _plain(value: Any) -> Any:
    """Turn tensors of any framework into arrays, also inside of lists and dicts."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return np.asarray(value)
    if hasattr(value, "detach"):  # PyTorch, which is not imported here
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return value


def _as_declared(value: Any, spec: TensorSpec) -> Array:
    if spec.datatype == "BYTES":
        array = _as_bytes(value, spec.name)
    else:
        array = np.asarray(value)
        # What cannot be converted without loss stays as it is, and does not pass.
        with contextlib.suppress(TypeError):
            array = array.astype(DATATYPES[spec.datatype].dtype, casting="same_kind", copy=False)
    check_output(array, spec)
    return array


def _as_bytes(value: Any, name: str) -> Array:
    array = np.asarray(value, np.object_)
    items = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
    if not all(isinstance(item, bytes) for item in items):
        raise ModelFailed(
            f"the model's output {name!r:.80} is declared as BYTES, but holds other than texts"
        )
    raw = np.empty(array.shape, np.object_)
    raw.reshape(-1)[:] = items
    return raw
