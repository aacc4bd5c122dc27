"""The model of the scenario `small`, opened alike by every server that runs it in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]


def load(path: str | Path) -> Callable[[Floats], Floats]:
    """Return a function from float32 [rows, 64] to float32 [rows, 8].

    Args:
        path: the ONNX file. ONNX Runtime gets one thread: more only cost time for 512 products.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(x: Floats) -> Floats:
        (y,) = session.run(["y"], {"x": x})
        answer: Floats = y
        return answer

    return run
