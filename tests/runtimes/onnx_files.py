"""Tiny ONNX files, made with the `onnx` package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]


def value(name: str, kind: int, shape: Sequence[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    properties: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
    if properties:
        helper.set_model_props(model, dict(properties))
    return model


def weights(name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    array = np.arange(np.prod(shape), dtype=helper.tensor_dtype_to_np_dtype(kind)).reshape(shape)
    return helper.make_tensor(name, kind, shape, array.tobytes(), raw=True)


def linear(properties: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """x [n, 2] -> y = x @ [[0, 1, 2], [3, 4, 5]]."""
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="inner")],
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
        [weights("w", [2, 3])],
        properties,
    )


def identity(kind: int, shape: Sequence[Any] | None = ("n",)) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = None if shape is None else list(shape)
    return model_of([node], [value("x", kind, shape)], [value("y", kind, shape)])


def external(folder: Path, location: str, keep: str = "weights.bin") -> Path:
    """Write `linear` with its weights in the file `keep`, and `location` as their place."""
    model = linear()
    (folder / keep).write_bytes(model.graph.initializer[0].raw_data)
    point_outside(model.graph.initializer[0], location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def point_outside(tensor: onnx.TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
