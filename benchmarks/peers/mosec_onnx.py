"""mosec with one worker process and no batching; bodies are bare float32, its quickest way.

    MODEL=FILE python mosec_onnx.py --address 127.0.0.1 --port PORT

mosec's documents show JSON first; a worker that reads its bytes itself, as here, is their way to
send tensors, and costs less. mosec reads the command line by itself, so the model's path comes in a
variable.
"""

from __future__ import annotations

import os

import matrix
import numpy as np
from mosec import Server, Worker


class Matrix(Worker):
    """Runs the model in a process of its own."""

    def __init__(self) -> None:
        self._run = matrix.load(os.environ["MODEL"])

    def deserialize(self, data: bytes) -> matrix.Floats:
        """Read one row."""
        return np.frombuffer(data, np.float32).reshape(1, 64)

    def forward(self, data: matrix.Floats) -> matrix.Floats:
        """Answer one request."""
        return self._run(data)

    def serialize(self, data: matrix.Floats) -> bytes:
        """Write one row."""
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Matrix, num=1)
    server.run()
