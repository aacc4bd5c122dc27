"""Write ONNX models whose answer tells which version of them has answered.

    python version_files.py FOLDER VERSION:KIND ...

`FOLDER/VERSION.onnx` adds the number of its version to float32 [rows, 64]. Each kind but `good` is
to be refused before it answers anybody: `unloadable` is half of a file, `nan` gives NaN, `shape`
gives [rows, 128], and `slow` multiplies by many large matrices of zeros on the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

COLUMNS = 64
WIDE = 1024
SLOW_LAYERS = 64


def model(version: int, kind: str) -> ModelProto:
    """Return one version.

    Args:
        version: what it adds.
        kind: what is wrong with it; `unloadable` is up to whoever writes the file.
    """
    added = np.float32(np.nan if kind == "nan" else version)
    constants = {"added": np.full(COLUMNS, added, np.float32)}
    nodes = [helper.make_node("Add", ["x", "added"], ["sum"])]
    columns = COLUMNS
    if kind == "shape":
        columns = 2 * COLUMNS
        nodes.append(helper.make_node("Concat", ["sum", "sum"], ["y"], axis=1))
    elif kind == "slow":
        nodes += _detour(constants)
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "version",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", COLUMNS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return made


def _detour(constants: dict[str, np.ndarray]) -> list[NodeProto]:
    """Return nodes that add zero to `sum`, and take some milliseconds to find that out."""
    constants["into"] = np.zeros((COLUMNS, WIDE), np.float32)
    constants["through"] = np.zeros((WIDE, WIDE), np.float32)
    constants["out"] = np.zeros((WIDE, COLUMNS), np.float32)
    names = ["x", *(f"h{number}" for number in range(SLOW_LAYERS + 2))]
    weights = ["into", *["through"] * SLOW_LAYERS, "out"]
    nodes = [
        helper.make_node("MatMul", [names[number], weight], [names[number + 1]])
        for number, weight in enumerate(weights)
    ]
    return [*nodes, helper.make_node("Add", ["sum", names[-1]], ["y"])]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for word in sys.argv[2:]:
        number, _, kind = word.partition(":")
        data = model(int(number), kind).SerializeToString()
        if kind == "unloadable":
            data = data[: len(data) // 2]
        (folder / f"{number}.onnx").write_bytes(data)
