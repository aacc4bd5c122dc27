"""Requests for the models that echo their one input `x`, right ones and wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from oip_messages import binary_body, binary_tensor, json_body
from raw_http import get

FP32 = "/v2/models/echo_fp32/infer"
LIVE = get("/v2/health/live")


def x(datatype: str, shape: Any, data: Any) -> bytes:
    """Write a request with the one input `x`."""
    return json_body({"name": "x", "shape": shape, "datatype": datatype, "data": data})


def raw(text: str) -> bytes:
    """Write a request for an echo whose data is this text, as it stands."""
    return b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + text.encode() + b"}]}"


def nested(depth: int, inner: str = "1") -> bytes:
    """Write a request that is `depth` containers deep."""
    around = 3  # the request, its inputs, the input
    return raw("[" * (depth - around) + inner + "]" * (depth - around))


GOOD = x("FP32", [1], [1])


def head(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Write the JSON part of a request with a binary part."""
    return {"inputs": list(inputs), **more}


def ones(count: int) -> tuple[bytes, dict[str, str]]:
    """Write the body of a request for `count` floats, and the headers that go with it."""
    header = {
        "inputs": [binary_tensor("x", "FP32", [count], 4 * count)],
        "parameters": {"binary_data_output": True},
    }
    return binary_body(header, np.ones(count, "<f4").tobytes())
