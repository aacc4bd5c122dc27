"""A model that is closed gives its memory back, whatever small parts it was made of."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import ModelSpec
from runtimes.torch_files import exported

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs glibc")

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


@pytest.mark.parametrize("make", [onnx_model, torch_model, python_model])
def test_the_memory_of_a_closed_model_is_given_back(
    make: Callable[[Path], ModelSpec], tmp_path: Path
) -> None:
    spec = make(tmp_path)
    registry.load(spec, RuntimeOptions(threads=1)).close()
    before = resident_bytes()
    model = registry.load(spec, RuntimeOptions(threads=1))
    held = resident_bytes() - before
    gc.freeze()  # as the server does once all is loaded
    try:
        model.close()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert held > SIZE_BYTES * 0.9
    assert resident_bytes() - before < SIZE_BYTES * 0.1


@pytest.mark.parametrize("make", [onnx_model, torch_model])
def test_to_close_a_model_stops_nobody(make: Callable[[Path], ModelSpec], tmp_path: Path) -> None:
    """A full collection would, since it looks at all objects that there are."""
    model = registry.load(make(tmp_path), RuntimeOptions(threads=1))
    collections: list[str] = []
    gc.disable()
    gc.callbacks.append(lambda phase, _: collections.append(phase))
    try:
        model.close()
    finally:
        del gc.callbacks[-1]
        gc.enable()
    assert collections == []


THREADS = """
import ctypes, sys, threading
from pelton.runtimes.memory import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def allocate():
    together.wait()
    assert libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize("heaps", ["shared", "own"])
def test_threads_share_a_heap_where_models_come_and_go(heaps: str) -> None:
    command = [sys.executable, "-c", THREADS, heaps]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (told.count("<heap nr=") <= 2) is (heaps == "shared")
