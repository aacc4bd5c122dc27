"""Versions of models, good ones and ones that go wrong at a moment of their choice.

The answer of version N is its input plus N, so its values prove which version has answered.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLUMNS = 4

GOLDEN = """
[[golden]]
name = "ones"
inputs = {x = [[1.0, 1.0, 1.0, 1.0]]}
"""

WORKER_TOML = f"""
isolation = "process"
instances = 1

[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, {COLUMNS}]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, {COLUMNS}]
{GOLDEN}"""

LATE_RUNS = 100
"""A version that turns bad in service has answered so many requests before, at the gates and after."""

_SOURCE = """
import os
import time

import numpy as np

VERSION = {version}
HELD = []
runs = 0


def load_model(model_path, device):
    {at_load}


def model_inference(obs):
    global runs
    runs += 1
    y = obs["x"] + np.float32(VERSION)
    {at_run}
    return y
"""

_WRONG = {
    "hang": "time.sleep(3600)",
    "exit": "os._exit(3)",
    "leak": "HELD.append(np.ones(1 << 18))",
    "raise": "raise ValueError('on purpose')",
    "nan": "y = y * np.float32('nan')",
    "shape": "y = np.concatenate([y, y], axis=1)",
}


def python_bytes(version: int, wrong: str = "", when: str = "") -> bytes:
    """Return a `model.py`.

    Args:
        version: what it adds.
        wrong: what goes wrong: a key of `_WRONG`; empty for nothing.
        when: `load`, `run`, `asked` (not on zeros, by which it is warmed) or `late`.
    """
    at_load, at_run = "pass", "pass"
    if when == "load":
        at_load = _WRONG[wrong]
    elif when == "run":
        at_run = _WRONG[wrong]
    elif when == "asked":
        at_run = f"if obs['x'].any(): {_WRONG[wrong]}"
    elif when == "late":
        at_run = f"if runs > {LATE_RUNS}: {_WRONG[wrong]}"
    return _SOURCE.format(version=version, at_load=at_load, at_run=at_run).encode()


def onnx_bytes(version: int, wrong: str = "") -> bytes:
    """Return an ONNX model.

    Args:
        version: what it adds.
        wrong: `cut` for half a file, `nan`, `shape`, `hang` for one that never answers, or
            `hang asked` for one that answers zeros, by which it is warmed, and nothing else; empty
            for nothing.
    """
    added = np.float32("nan" if wrong == "nan" else version)
    constants = {"added": np.full(COLUMNS, added, np.float32)}
    nodes = [helper.make_node("Add", ["x", "added"], ["sum"])]
    columns = COLUMNS
    if wrong == "shape":
        columns = 2 * COLUMNS
        nodes.append(helper.make_node("Concat", ["sum", "sum"], ["y"], axis=1))
    elif wrong.startswith("hang"):
        nodes += _endless(constants, "x" if wrong == "hang asked" else "")
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "version",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", COLUMNS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    written = bytes(model.SerializeToString())
    return written[: len(written) // 2] if wrong == "cut" else written


def _endless(constants: dict[str, object], unless_zero: str) -> list[onnx.NodeProto]:
    """Return nodes that turn `sum` into `y` by a loop of 2^62 rounds, or of none for zeros."""
    constants["rounds"] = np.int64(1 << 62)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["value", "added"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["rows", COLUMNS]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["rows", COLUMNS]),
        ],
    )
    nodes = []
    condition = "always"
    if unless_zero:
        condition = "is_asked"
        nodes = [
            helper.make_node("ReduceSum", [unless_zero], ["total"], keepdims=0),
            helper.make_node("Cast", ["total"], ["is_asked"], to=TensorProto.BOOL),
        ]
    else:
        constants["always"] = np.bool_(True)
    loop = helper.make_node("Loop", ["rounds", condition, "sum"], ["y"], body=body)
    return [*nodes, loop]
