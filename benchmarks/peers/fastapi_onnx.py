"""FastAPI as its documents show it: a pydantic body, one process of uvicorn, ONNX Runtime.

    python fastapi_onnx.py PORT MODEL

The handler is `async def` and runs the model on the loop: for a model this small that is several
times quicker than the thread pool of a `def` handler. uvloop and httptools are installed; the
access log is off.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    """Rows of 64 numbers."""

    x: list[list[float]]


class Answer(BaseModel):
    """Rows of 8 numbers."""

    y: list[list[float]]


def build(model_path: str) -> FastAPI:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict")
    async def predict(question: Question) -> Answer:
        (y,) = session.run(["y"], {"x": np.array(question.x, np.float32)})
        return Answer(y=y.tolist())

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
    )
