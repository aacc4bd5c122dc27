"""LitServe as its documents show it: JSON, one server process, one worker process.

python litserve_onnx.py PORT MODEL
"""

import sys
from typing import Any

import litserve
import matrix
import numpy as np
from fastapi import Request


class Matrix(litserve.LitAPI):
    """Runs the model in a worker process."""

    def setup(self, device: str) -> None:
        """Open the file; LitServe calls this once in each worker."""
        self._run = matrix.load(sys.argv[2])

    def decode_request(self, request: Request) -> matrix.Floats:
        """Read the rows.

        Args:
            request: the decoded JSON: LitServe reads from the annotation how to get it, and so
                this file does without annotations as text.
        """
        body: Any = request
        return np.array(body["x"], np.float32)

    def predict(self, x: matrix.Floats) -> matrix.Floats:
        """Answer one request."""
        return self._run(x)

    def encode_response(self, output: matrix.Floats) -> dict[str, Any]:
        """Write the rows."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Matrix(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
