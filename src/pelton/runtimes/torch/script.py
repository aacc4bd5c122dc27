"""Loads TorchScript, which PyTorch has deprecated in favour of exported programs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pelton.errors import InvalidRequest, LoadFailed
from pelton.runtimes.torch.file import EXPORT
from pelton.runtimes.torch.program import Call, Program, output_names
from pelton.specs import ModelSpec

logger = logging.getLogger("pelton.runtimes")


def load_script(path: Path, device: str, spec: ModelSpec) -> Program:
    """Load a TorchScript file.

    The file knows the names of its arguments, but neither types nor shapes. Where `model.toml`
    declares inputs and outputs, they are served as such; else the model takes whatever is sent,
    by the names of its arguments.

    Args:
        path: the file.
        device: `cpu` or `cuda:N`.
        spec: the model, for what is declared.

    Raises:
        LoadFailed: the declarations do not fit.
        Exception: whatever PyTorch raises on a broken file.
    """
    import torch

    logger.warning(
        "%s is TorchScript, which PyTorch has deprecated; it is a program that may do whatever "
        "the server may, so serve only what you trust; better, %s",
        path.name,
        EXPORT,
    )
    # The function has no types of its own.
    load: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"`torch\.jit\.load` is deprecated", category=DeprecationWarning
        )
        module = load(str(path), map_location=device)
    module.eval()
    arguments = list(module.forward.schema.arguments[1:])
    names = [argument.name for argument in arguments]
    if not spec.inputs and not spec.outputs:
        logger.info("%s takes whatever is sent by the names %s", path.name, ", ".join(names))
        call = _undeclared(module, arguments)
        return Program(call, module, (), (), "TorchScript", "pytorch_torchscript")
    required = sum(not argument.has_default_value() for argument in arguments)
    if not spec.outputs or not required <= len(spec.inputs) <= len(names):
        raise LoadFailed(
            f"model.toml declares {len(spec.inputs)} inputs and {len(spec.outputs)} outputs, but "
            f"the model takes {', '.join(names) or 'nothing'}; declare every input and output"
        )
    call = _declared(module, names, spec)
    return Program(call, module, spec.inputs, spec.outputs, "TorchScript", "pytorch_torchscript")


def _declared(module: Any, arguments: Sequence[str], spec: ModelSpec) -> Call:
    from torch.utils import _pytree as pytree

    inputs = [one.name for one in spec.inputs]
    outputs = [one.name for one in spec.outputs]
    # Tracing makes up names such as `input.1`, so others may be declared, in the same order.
    by_name = set(inputs) <= set(arguments)

    def call(values: Mapping[str, Any]) -> dict[str, Any]:
        in_order = (values[name] for name in inputs)
        result = module(**values) if by_name else module(*in_order)
        if isinstance(result, dict):
            return {name: result[name] for name in outputs}
        return dict(zip(outputs, pytree.tree_leaves(result), strict=True))

    return call


def _undeclared(module: Any, arguments: Sequence[Any]) -> Call:
    from torch.utils import _pytree as pytree

    names = {argument.name for argument in arguments}
    required = {argument.name for argument in arguments if not argument.has_default_value()}

    def call(values: Mapping[str, Any]) -> dict[str, Any]:
        if len(values) == len(names) == 1:
            result = module(*values.values())
        elif required <= values.keys() <= names:
            result = module(**values)
        else:
            raise InvalidRequest(
                f"the model takes {', '.join(sorted(names)) or 'nothing'}, "
                f"but {', '.join(sorted(values)) or 'nothing'!s:.200} came"
            )
        return dict(zip(output_names(result), pytree.tree_leaves(result), strict=True))

    return call
