"""The model of Triton's Python backend, which imports this file as `model.py`.

`triton_launch.py` copies it into a model repository.
"""

from __future__ import annotations

import json
from typing import Any

import matrix
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs the ONNX file that the parameter `path` names."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the file; Triton calls this once for each instance."""
        config = json.loads(args["model_config"])
        self._run = matrix.load(config["parameters"]["path"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that wait."""
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y = pb_utils.Tensor("y", self._run(x))
            answers.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return answers
