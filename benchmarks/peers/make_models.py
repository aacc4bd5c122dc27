"""Write the ONNX models that are measured.

    python make_models.py FOLDER

`payload/pixels/1/model.onnx` takes pictures (uint8 [n, h, w, 3]) and returns 32 pixels of one row
(float32 [16, 6]); `small.onnx` multiplies float32 [n, 64] by a matrix to float32 [n, 8];
`cnn.onnx` is a ResNet-18.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import resnet
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper, save_model

Constants = dict[str, np.ndarray]
Ports = tuple[str, int, list[str | int]]


def pixels() -> ModelProto:
    constants = {
        "starts": np.array([0, 0, 0]),
        "ends": np.array([1, 1, 32]),
        "axes": np.array([0, 1, 2]),
        "chunk": np.array([16, 6]),
    }
    nodes = [
        helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["row"]),
        helper.make_node("Cast", ["row"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "chunk"], ["actions"]),
    ]
    return _model(
        nodes,
        ("image", TensorProto.UINT8, ["pictures", "height", "width", 3]),
        ("actions", TensorProto.FLOAT, [16, 6]),
        constants,
    )


def small() -> ModelProto:
    weights = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    return _model(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        ("x", TensorProto.FLOAT, ["rows", 64]),
        ("y", TensorProto.FLOAT, ["rows", 8]),
        {"weights": weights},
    )


def _model(nodes: list[NodeProto], takes: Ports, gives: Ports, constants: Constants) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "measured",
        [helper.make_tensor_value_info(*takes)],
        [helper.make_tensor_value_info(*gives)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for path, model in (
        (folder / "payload" / "pixels" / "1" / "model.onnx", pixels()),
        (folder / "small.onnx", small()),
        (folder / "cnn.onnx", resnet.resnet18()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
