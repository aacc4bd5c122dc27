"""A PyTorch model of either file format, in the form in which it is run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelton.specs import TensorSpec

if TYPE_CHECKING:
    import torch

DATATYPES = {
    "torch.bool": "BOOL",
    "torch.uint8": "UINT8",
    "torch.uint16": "UINT16",
    "torch.uint32": "UINT32",
    "torch.uint64": "UINT64",
    "torch.int8": "INT8",
    "torch.int16": "INT16",
    "torch.int32": "INT32",
    "torch.int64": "INT64",
    "torch.float16": "FP16",
    "torch.float32": "FP32",
    "torch.float64": "FP64",
    "torch.bfloat16": "BF16",
}
"""PyTorch's name of a type -> the protocol's."""

Call = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Runs the model: input name -> tensor to output name -> tensor.

For a model that declares no inputs, both sides may also hold plain numbers and texts.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What either file format comes to.

    Attributes:
        call: runs the model.
        module: holds the weights.
        inputs: what it takes; empty where the file does not tell.
        outputs: what it gives; likewise.
        kind: the format's name for people.
        platform: framework and format for the protocol.
    """

    call: Call
    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kind: str
    platform: str


def let_go_of_weights(module: torch.nn.Module) -> None:
    """Free a module's weights, whoever still holds the module, which cannot be run any more.

    A module is a cycle of objects: without this, its weights would stay until these are collected.
    """
    import torch

    for weights in (*module.parameters(), *module.buffers()):
        # A kind of tensor that cannot be given other memory stays until it is collected.
        with contextlib.suppress(RuntimeError):
            weights.data = torch.empty(0, dtype=weights.dtype, device=weights.device)


def output_names(result: Any) -> list[str]:
    """Name the leaves of what a model returns, in the order in which they are flattened.

    The only one is `output` unless a dict gives it a name, others are `output_0`, `output_1`,
    ..., and what a dict holds has its key; deeper ones are joined by `_`.

    Args:
        result: a tensor, or tuples, lists and dicts of tensors.
    """
    from torch.utils import _pytree as pytree

    paths = [path for path, _ in pytree.tree_flatten_with_path(result)[0]]
    if len(paths) == 1 and not any(isinstance(key, pytree.MappingKey) for key in paths[0]):
        return ["output"]
    return [_joined(path) for path in paths]


def _joined(path: Sequence[Any]) -> str:
    names = [str(getattr(step, "key", getattr(step, "idx", step))) for step in path]
    return "_".join(names if hasattr(path[0], "key") else ["output", *names])
