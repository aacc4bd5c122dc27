"""Bodies of the Open Inference Protocol, written by hand and not by the code under test."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.messages import InferRequest
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.limits import Limits
from pelton.wire.oip_message import ReplyPlan
from pelton.wire.oip_request import decode_request

LIMITS = Limits()

SAMPLES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**53 + 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**53 + 1, 2**63 - 1]], np.int64),
    "FP16": np.array([[np.nan, -np.inf, 65504]], np.float16),
    "FP32": np.array([[np.nan, -np.inf, 0.1]], np.float32),
    "FP64": np.array([[np.nan, np.inf, 0.1]], np.float64),
    "BF16": np.array([[np.nan, -np.inf, 1.5]], np.float32),
    "BYTES": np.array([["päiv".encode(), b"", b"a\x00"]], object),
}
"""Datatype -> a tensor with the ends of its range, shape [1, 3]."""


def model(
    *inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (), **further: Any
) -> ModelMetadata:
    return ModelMetadata("m", "1", "test", inputs, outputs, **further)


ANY_MODEL = model()


def joined(header: object, *binaries: bytes) -> tuple[memoryview, int]:
    """Return a body and its `Inference-Header-Content-Length`."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(head + b"".join(binaries)), len(head)


def decode(
    header: object,
    *binaries: bytes,
    metadata: ModelMetadata = ANY_MODEL,
    limits: Limits = LIMITS,
) -> tuple[InferRequest, ReplyPlan]:
    body, header_bytes = joined(header, *binaries)
    return decode_request(body, header_bytes, metadata, limits)


def binary_input(name: str, datatype: str, shape: list[Any], size: object) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
    }


def json_input(name: str, datatype: str, shape: list[Any], data: object) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def assert_refused(
    header: object,
    *binaries: bytes,
    says: str,
    code: Code = Code.INVALID_INPUT,
    metadata: ModelMetadata = ANY_MODEL,
    limits: Limits = LIMITS,
) -> None:
    """Assert that a request is refused for the stated reason, in a message of bounded length."""
    with pytest.raises(InvalidRequest) as caught:
        decode(header, *binaries, metadata=metadata, limits=limits)
    assert says in caught.value.message
    assert caught.value.code is code
    assert len(caught.value.message) < 1000
