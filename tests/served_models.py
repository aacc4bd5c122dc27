"""The folder of models that the hostile and the end-to-end tests serve."""

from __future__ import annotations

from pathlib import Path

from pelton.tensors import DATATYPES
from support_server import write_identity, write_matmul, write_python_model

_RAISES = """
def load_model(model_path, device):
    return None

def model_inference(obs):
    raise ValueError("on purpose, and not for strangers")
"""

_EXITS = """
import sys

def load_model(model_path, device):
    return None

def model_inference(obs):
    sys.exit("on purpose")
"""

_PLAIN = """
def load_model(model_path, device):
    return None

def model_inference(obs):
    return obs["value"]
"""


def write_models(folder: Path) -> Path:
    """Write the models, and return the folder.

    * `matmul`: FP32 [-1, 64] -> FP32 [-1, 8], see `support_server.write_matmul`
    * `echo_fp32`, `echo_int8`, ...: one for each datatype, `x` [-1] -> `y`, the same
    * `rows`: `x` FP32 [-1, 3] -> `y`, the same
    * `pair`: `x0`, `x1` FP32 [-1] -> `y0`, `y1`, the same
    * `plain`: any dict with `value`, which it answers
    * `raises`, `exits`: fail in their own code
    """
    write_matmul(folder / "matmul/1/model.onnx")
    for name in DATATYPES:
        write_identity(folder / f"echo_{name.lower()}/1/model.onnx", name)
    write_identity(folder / "rows/1/model.onnx", shape=(-1, 3))
    write_identity(folder / "pair/1/model.onnx", inputs=2)
    write_python_model(folder / "plain/1", _PLAIN)
    write_python_model(folder / "raises/1", _RAISES)
    write_python_model(folder / "exits/1", _EXITS)
    return folder
