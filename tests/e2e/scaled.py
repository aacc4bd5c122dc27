"""Models whose answers tell which version gave them: version n multiplies by n."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pelton.client import Client

ROWS = "batch"
"""The name of a size that says that the first axis counts rows."""


def write_scaled(
    path: Path, factor: float, shape: Sequence[int | str] = (ROWS, 3), padding_bytes: int = 0
) -> Path:
    """Write a model `OUTPUT0 = INPUT0 * factor`, both FP32.

    Args:
        path: the `.onnx` file.
        factor: what it multiplies by.
        shape: of input and output; texts name open sizes.
        padding_bytes: by how much the file is larger, in weights that change nothing.
    """
    scale = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    padding = numpy_helper.from_array(np.zeros(padding_bytes // 4 + 1, np.float32), "padding")
    nodes = [
        helper.make_node("ReduceSum", ["padding"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["factor", "nothing"], ["scale"]),
        helper.make_node("Mul", ["INPUT0", "scale"], ["OUTPUT0"]),
    ]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("INPUT0", "OUTPUT0")
    ]
    graph = helper.make_graph(nodes, "scaled", tensors[:1], tensors[1:], [scale, padding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_versions(folder: Path, *versions: int, padding_bytes: int = 0) -> Path:
    """Write versions of a model into its folder, and return the folder."""
    for version in versions:
        write_scaled(folder / str(version) / "model.onnx", version, padding_bytes=padding_bytes)
    return folder


def who_answers(client: Client, model: str, version: str | None = None, **how: Any) -> int:
    """Ask a model, and return which version answered, by its numbers and by its word."""
    ones = np.ones((1, 3), np.float32)
    answer = client.infer(model, {"INPUT0": ones}, version=version, **how)
    number = int(answer.outputs["OUTPUT0"][0, 0])
    assert np.array_equal(answer.outputs["OUTPUT0"], ones * number)
    assert answer.version == str(number)
    return number
