"""Loads programs that `torch.export.save` wrote.

Such a file is a program and as powerful as one: PyTorch evaluates expressions that it finds in
it. What can be taken from it without loss is its pickles, which PyTorch would load without any
restraint, so a file that has some is refused.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelton.errors import InvalidRequest, LoadFailed
from pelton.runtimes.torch.program import DATATYPES, Call, Program, output_names
from pelton.specs import TensorSpec

if TYPE_CHECKING:
    import torch
    from torch.utils import _pytree as pytree

_TORCH_LOGGERS = ("torch.export", "torch.export.pt2_archive._package")

_PLAIN_TENSORS = ("weight_", "tensor_")
"""How the archive calls the files that hold nothing but a tensor's bytes."""


def load_exported(path: Path, device: str) -> Program:
    """Load an exported program.

    Args:
        path: the file.
        device: `cpu` or `cuda:N`.

    Raises:
        LoadFailed: the file holds pickles, or takes or gives what is no tensor.
        Exception: whatever PyTorch raises on a broken file.
    """
    import torch
    from torch.export.passes import move_to_device_pass

    _refuse_pickles(path)
    with _quiet():
        program = torch.export.load(path)
    if device != "cpu" or any(one.device.type != "cpu" for one in program.state_dict.values()):
        program = move_to_device_pass(program, device)
    inputs, leaves = _inputs(program)
    outputs, names = _outputs(program)
    module = program.module()
    call = _caller(module, leaves, program.call_spec.in_spec, names)
    return Program(call, module, inputs, outputs, "torch.export", "pytorch_export")


def _inputs(
    program: torch.export.ExportedProgram,
) -> tuple[tuple[TensorSpec, ...], list[tuple[str | None, Any]]]:
    """Return the tensors that are taken, and every argument as (name, -) or (None, constant)."""
    from torch.export.graph_signature import ConstantArgument, InputKind

    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    specs = []
    leaves: list[tuple[str | None, Any]] = []
    for entry in program.graph_signature.input_specs:
        if entry.kind is not InputKind.USER_INPUT:
            continue
        if isinstance(entry.arg, ConstantArgument):
            leaves.append((None, entry.arg.value))
        else:
            specs.append(_tensor_spec(entry.arg.name, values[entry.arg.name], "input"))
            leaves.append((entry.arg.name, None))
    return tuple(specs), leaves


def _caller(
    module: torch.nn.Module,
    leaves: list[tuple[str | None, Any]],
    in_spec: pytree.TreeSpec,
    names: list[str | None],
) -> Call:
    from torch.utils import _pytree as pytree

    def call(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        flat = [constant if name is None else tensors[name] for name, constant in leaves]
        args, kwargs = pytree.tree_unflatten(flat, in_spec)
        try:
            result = module(*args, **kwargs)
        except AssertionError as error:
            if not str(error).startswith("Guard failed: "):
                raise
            rule = str(error).removeprefix("Guard failed: ")
            raise InvalidRequest(
                f"the model was exported for inputs with {rule:.200}, which does not hold here"
            ) from error
        given = zip(names, pytree.tree_leaves(result), strict=True)
        return {name: value for name, value in given if name is not None}

    return call


def _outputs(
    program: torch.export.ExportedProgram,
) -> tuple[tuple[TensorSpec, ...], list[str | None]]:
    """Return the tensors that are given, and every leaf's name, None for a constant."""
    from torch.export.graph_signature import OutputKind, TensorArgument
    from torch.utils import _pytree as pytree

    given = [
        entry.arg
        for entry in program.graph_signature.output_specs
        if entry.kind is OutputKind.USER_OUTPUT
    ]
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    whole = pytree.tree_unflatten(range(len(given)), program.call_spec.out_spec)
    specs = []
    names: list[str | None] = []
    for argument, name in zip(given, output_names(whole), strict=True):
        if isinstance(argument, TensorArgument):
            specs.append(_tensor_spec(name, values[argument.name], "output"))
            names.append(name)
        else:
            names.append(None)
    if len({spec.name for spec in specs}) < len(specs):
        raise LoadFailed("two outputs of the model would have the same name; rename its dict keys")
    return tuple(specs), names


def _tensor_spec(name: str, value: Any, kind: str) -> TensorSpec:
    dtype = getattr(value, "dtype", type(value).__name__)
    datatype = DATATYPES.get(str(dtype))
    if datatype is None:
        raise LoadFailed(
            f"the {kind} {name!r:.80} is of type {dtype}, which cannot be sent; "
            "export the model with a tensor of numbers there"
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, datatype, shape)


def _refuse_pickles(path: Path) -> None:
    import torch
    from torch.export.pt2_archive import PT2ArchiveReader

    refusal = LoadFailed(
        f"{path.name} holds pickled objects (tensor subclasses, custom objects, or inputs that "
        "are no tensors), which could run code; export it with plain tensors only"
    )
    with PT2ArchiveReader(str(path)) as archive:
        for entry in archive.get_file_names():
            if entry.startswith(("data/weights/", "data/constants/")):
                if entry.endswith(".pt"):
                    raise refusal
                if entry.endswith("_config.json"):
                    config = json.loads(archive.read_bytes(entry))["config"]
                    if not all(_is_plain(payload) for payload in config.values()):
                        raise refusal
            elif entry.startswith("data/sample_inputs/"):
                sample = archive.read_bytes(entry)
                try:
                    if sample:
                        torch.load(io.BytesIO(sample), weights_only=True)
                # Border: whatever PyTorch raises, it would load the bytes without restraint next.
                except Exception as error:
                    raise refusal from error


def _is_plain(payload: Mapping[str, Any]) -> bool:
    return payload["use_pickle"] is False and payload["path_name"].startswith(_PLAIN_TENSORS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging the traceback of an error that it also raises."""
    loggers = [logging.getLogger(name) for name in _TORCH_LOGGERS]
    before = [one.disabled for one in loggers]
    try:
        for one in loggers:
            one.disabled = True
        yield
    finally:
        for one, disabled in zip(loggers, before, strict=True):
            one.disabled = disabled
