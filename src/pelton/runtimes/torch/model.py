"""Runs PyTorch models: exported programs (`.pt2`) and, for the time being, TorchScript."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pelton.errors import InvalidRequest, LoadFailed
from pelton.messages import Value
from pelton.own_paths import without_paths
from pelton.runtimes.choices import choose_device, own_options
from pelton.runtimes.contract import LoadedModel, RuntimeOptions
from pelton.runtimes.declared import check_output, reconcile
from pelton.runtimes.extras import needs
from pelton.runtimes.memory import give_memory_back
from pelton.runtimes.torch.exported import load_exported
from pelton.runtimes.torch.file import TorchFormat, torch_format
from pelton.runtimes.torch.program import Program, let_go_of_weights
from pelton.runtimes.torch.script import load_script
from pelton.specs import ModelMetadata, ModelSpec

logger = logging.getLogger("pelton.runtimes")

OPTIONS = {"device": str}
"""What `[options]` of a `model.toml` may set; PyTorch's threads are the whole process's."""

SEED = 0
"""What the random numbers of each run begin with, in deterministic mode."""


def load(spec: ModelSpec, options: RuntimeOptions) -> LoadedModel:
    """Load an exported program or a TorchScript file.

    Args:
        spec: the model; declared inputs and outputs must agree with the file's.
        options: how to run it. `threads` and `inter_op_threads` hold for the whole
            process; `allow_spinning` and `graph_optimization` mean nothing to PyTorch.

    Raises:
        LoadFailed: the file is broken, unsafe, or no model that runs by itself.
    """
    with needs("torch", "torch"):
        import torch
    chosen = dataclasses.replace(options, **own_options(spec, OPTIONS))
    form = torch_format(spec.path)
    device = choose_device(
        chosen.device,
        torch.cuda.device_count(),
        "install PyTorch for CUDA and the driver, or use the device cpu",
    )
    _set_threads(chosen)
    if chosen.deterministic:
        _use_deterministic_kernels()
    program = _program(spec, form, device)
    metadata = ModelMetadata(
        name=spec.name,
        version=str(spec.version),
        platform=program.platform,
        inputs=reconcile(program.inputs, spec, "input"),
        outputs=reconcile(program.outputs, spec, "output"),
        takes_objects=not program.outputs,
        labels=spec.labels,
        device=device,
        model_type=program.kind,
        parameters=sum(one.numel() for one in program.module.parameters()),
        trainable_parameters=sum(
            one.numel() for one in program.module.parameters() if one.requires_grad
        ),
        size_bytes=spec.path.stat().st_size,
    )
    return TorchModel(program, metadata, seeded=chosen.deterministic)


class TorchModel:
    """A PyTorch model, which runs one request at a time: its buffers may change in a run."""

    concurrent = False
    quick = False

    def __init__(self, program: Program, metadata: ModelMetadata, *, seeded: bool = False) -> None:
        import torch

        self._seeded = seeded
        self.metadata = metadata
        self._program = program
        self._device = torch.device(metadata.device)
        self._bfloat16 = {spec.name for spec in metadata.inputs if spec.datatype == "BF16"}
        self._kept = {
            one.untyped_storage().data_ptr()
            for one in (*program.module.parameters(), *program.module.buffers())
        }

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute every output; see `LoadedModel.run`.

        Raises:
            InvalidRequest: sizes or names that the model was not made for.
            ModelFailed: an output is not what is declared of it.
        """
        import torch

        if self._seeded:
            torch.manual_seed(SEED)
        with torch.inference_mode():
            values = {name: self._to_tensor(name, value) for name, value in inputs.items()}
            results = self._program.call(values)
            outputs = {name: self._from_tensor(value) for name, value in results.items()}
        for spec in self.metadata.outputs:
            check_output(outputs[spec.name], spec)
        return outputs

    def close(self) -> None:
        """Free the weights, on the device too."""
        import torch

        let_go_of_weights(self._program.module)
        del self._program
        give_memory_back()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _to_tensor(self, name: str, value: Value) -> Any:
        import torch

        if not isinstance(value, np.ndarray):
            return value
        try:
            # A copy, because tensors are writable and a model may well write to its inputs.
            own = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
            tensor = torch.from_numpy(own).to(self._device)
        except TypeError:
            raise InvalidRequest(
                f"input {name!r:.80} is an array of {value.dtype!s:.40}, of which PyTorch has none"
            ) from None
        return tensor.to(torch.bfloat16) if name in self._bfloat16 else tensor

    def _from_tensor(self, value: Any) -> Value:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.bfloat16:
            value = value.float()
        array = value.detach().cpu().numpy()
        # A result that is a view of the model's own buffer would change with the next run.
        kept = value.untyped_storage().data_ptr() in self._kept
        return array.copy() if kept else array


def _program(spec: ModelSpec, form: TorchFormat, device: str) -> Program:
    try:
        if form is TorchFormat.EXPORTED:
            return load_exported(spec.path, device)
        return load_script(spec.path, device, spec)
    except LoadFailed:
        raise
    # Border: what a broken archive makes PyTorch raise is not documented.
    except Exception as error:
        raise LoadFailed(
            f"PyTorch cannot load {spec.path.name} ({form.value}): {_plain(error, spec.path)}"
        ) from error


def _plain(error: Exception, path: Path) -> str:
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    return without_paths(said, path.parent)[:300]


def _use_deterministic_kernels() -> None:
    """Have PyTorch take kernels whose results do not depend on timing; in the whole process.

    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    import torch

    # What cuBLAS needs for it, and reads when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def _set_threads(options: RuntimeOptions) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.inter_op_threads not in (0, torch.get_num_interop_threads()):
        try:
            torch.set_num_interop_threads(options.inter_op_threads)
        except RuntimeError:
            logger.warning(
                "PyTorch has started its threads already, so inter_op_threads stays at %d",
                torch.get_num_interop_threads(),
            )
