"""ResNet-18 (He et al., 2015, table 1) with random weights, as an ONNX graph.

Batch normalisation is folded into the convolutions, as every exporter for inference leaves it.
Weights are drawn as He et al. initialise them, so that the values stay of a natural size.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels of each stage, and the stride with which it begins."""

BLOCKS = 2
SIDE = 224
CLASSES = 1000


class _Graph:
    """Gathers nodes and weights; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, kind: str, *inputs: str, **attributes: int | list[int]) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def drawn(self, *shape: int, scale: float) -> str:
        name = f"weights_{len(self.weights)}"
        values = self._random.normal(scale=scale, size=shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolve(self, x: str, channels: tuple[int, int], side: int, stride: int) -> str:
        takes, gives = channels
        kernel = self.drawn(gives, takes, side, side, scale=(2 / (takes * side**2)) ** 0.5)
        bias = self.drawn(gives, scale=0.01)
        pads, strides = [side // 2] * 4, [stride, stride]
        return self.node(
            "Conv", x, kernel, bias, kernel_shape=[side, side], pads=pads, strides=strides
        )

    def block(self, x: str, channels: tuple[int, int], stride: int) -> str:
        _, gives = channels
        inner = self.node("Relu", self.convolve(x, channels, 3, stride))
        inner = self.convolve(inner, (gives, gives), 3, 1)
        beside = x if stride == 1 else self.convolve(x, channels, 1, stride)
        return self.node("Relu", self.node("Add", inner, beside))


def resnet18() -> ModelProto:
    """Return the model: `image`, float32 [batch, 3, 224, 224], to `scores`, [batch, 1000]."""
    graph = _Graph()
    x = graph.node("Relu", graph.convolve("image", (3, 64), 7, 2))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    takes = 64
    for gives, stride in STAGES:
        for number in range(BLOCKS):
            x = graph.block(x, (takes, gives), stride if number == 0 else 1)
            takes = gives
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    weights = graph.drawn(takes, CLASSES, scale=takes**-0.5)
    bias = graph.drawn(CLASSES, scale=0.01)
    graph.nodes.append(helper.make_node("Gemm", [x, weights, bias], ["scores"], "scores"))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "resnet18",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model, full_check=True)
    return model
