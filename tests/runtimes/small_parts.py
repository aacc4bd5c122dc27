"""Models of 128 MiB in many small parts, and what is left of one that is closed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import ModelSpec
from runtimes.torch_files import exported

SIZE_BYTES = 128 * 1024 * 1024
MATRIX = 64
"""Rows and columns; 16 KiB are far below what the C library would map by itself."""

COUNT = SIZE_BYTES // (MATRIX * MATRIX * 4)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def onnx_model(folder: Path) -> ModelSpec:
    rng = np.random.default_rng(0)
    shape = (MATRIX, MATRIX)
    weights = [rng.random(shape, np.float32) for _ in range(COUNT)]
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(COUNT)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["batch", MATRIX])],
        [helper.make_tensor_value_info(f"h{COUNT}", TensorProto.FLOAT, ["batch", MATRIX])],
        [numpy_helper.from_array(each, f"w{i}") for i, each in enumerate(weights)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "m.onnx")
    return ModelSpec("m", 1, folder / "m.onnx", "onnx")


class Weights(torch.nn.Module):
    """128 MiB of weights in parts of 256 KiB."""

    def __init__(self) -> None:
        super().__init__()
        self.all = torch.nn.ParameterList(
            torch.nn.Parameter(torch.ones(256, 256)) for _ in range(512)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.all[0]


def torch_model(folder: Path) -> ModelSpec:
    path = exported(folder / "m.pt2", Weights(), (torch.zeros(256, 256),))
    return ModelSpec("m", 1, path, "torch")


MODEL_PY = f"""
import numpy as np

class Model:
    def load(self, path, device):
        self.weights = [np.ones(({MATRIX}, {MATRIX}), np.float32) for _ in range({COUNT})]
        self.itself = self  # a cycle, as PyTorch's modules have them

    def predict(self, inputs):
        return self.weights[0]
"""


def python_model(folder: Path) -> ModelSpec:
    (folder / "model.py").write_text(MODEL_PY)
    return ModelSpec("m", 1, folder, "python")


def held_and_left(make: Callable[[Path], ModelSpec], folder: Path) -> tuple[int, int]:
    """Load a model and close it; return the bytes that it held, and those that stayed.

    To be called in a process of its own: what others have left in the heap moves with every run.
    """
    spec = make(folder)
    registry.load(spec, RuntimeOptions(threads=1)).close()
    before = resident_bytes()
    model = registry.load(spec, RuntimeOptions(threads=1))
    held = resident_bytes() - before
    gc.freeze()  # as the server does once all is loaded
    model.close()
    assert gc.get_freeze_count() > 0
    return held, resident_bytes() - before
