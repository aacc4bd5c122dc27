"""Requests of the Open Inference Protocol as bytes, made once and sent again and again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


def path(model: str) -> str:
    """Return where a model is asked."""
    return f"/v2/models/{model}/infer"


def question(name: str, array: npt.NDArray[Any]) -> bytes:
    """Return the JSON that stands before one binary tensor and asks for binary answers."""
    tensor = {
        "name": name,
        "datatype": DATATYPES[array.dtype.name],
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()


def headers(asked: bytes) -> dict[str, str]:
    """Return what a binary request says of itself besides its length."""
    return {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(asked)),
    }


def head(model: str, name: str, array: npt.NDArray[Any], more: Mapping[str, str]) -> bytes:
    """Return everything of a request that comes before the tensor's bytes.

    Args:
        model: who is asked.
        name: of the input.
        array: its value, C-contiguous.
        more: further headers.
    """
    asked = question(name, array)
    return http(path(model), headers(asked) | dict(more), len(asked) + array.nbytes) + asked


def http(target: str, fields: Mapping[str, str], size: int) -> bytes:
    """Return the head of a POST with a body of `size` bytes."""
    lines = [f"POST {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {size}"]
    lines += [f"{key}: {value}" for key, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def request(
    model: str, name: str, array: npt.NDArray[Any], more: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole request: `head` and the tensor's bytes."""
    return head(model, name, np.ascontiguousarray(array), more or {}) + array.tobytes()
