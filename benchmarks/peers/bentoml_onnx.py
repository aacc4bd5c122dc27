"""BentoML as its documents show it: a service with a typed API, one worker, JSON.

MODEL=FILE bentoml serve bentoml_onnx:Matrix --port PORT
"""

from __future__ import annotations

import os

import bentoml
import matrix
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Matrix:
    """Runs the model in the process that answers HTTP."""

    def __init__(self) -> None:
        self._run = matrix.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, x: list[list[float]]) -> list[list[float]]:
        """Answer one request."""
        rows: list[list[float]] = self._run(np.array(x, np.float32)).tolist()
        return rows
