"""FastAPI as its documents show it: a pydantic body, one process of uvicorn, ONNX Runtime.

    python fastapi_onnx.py PORT MODEL def|async

FastAPI's documents advise a `def` handler for code that blocks, as a model does; FastAPI runs it
in a thread pool. An `async def` handler runs the model on the loop, which holds up every other
request meanwhile, but for a model this small is several times quicker. uvloop and httptools are
installed; the access log is off.
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


def build(model_path: str, handler: str) -> FastAPI:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    def predict(question: Question) -> Answer:
        (y,) = session.run(["y"], {"x": np.array(question.x, np.float32)})
        return Answer(y=y.tolist())

    async def predict_on_loop(question: Question) -> Answer:
        return predict(question)

    app.post("/predict")(predict if handler == "def" else predict_on_loop)
    return app


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[2], sys.argv[3]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
    )
