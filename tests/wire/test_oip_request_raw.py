"""Where the arrays of a request lie, and requests that are nothing but bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.errors import InvalidRequest
from pelton.specs import TensorSpec
from pelton.wire.oip_message import ReplyPlan
from pelton.wire.oip_request import decode_request
from wire.oip_bodies import (
    LIMITS,
    binary_input,
    decode,
    json_input,
    model,
)

X = json_input("x", "INT32", [2], [1, 2])


def with_x(**fields: object) -> dict[str, object]:
    return {"inputs": [X], **fields}


# Where the arrays lie


def test_aligned_tensors_are_read_only_views_of_the_body() -> None:
    head = json.dumps({"inputs": [binary_input("x", "FP64", [4], 32)]}).encode()
    head += b" " * (-len(head) % 64)
    block = np.zeros(len(head) + 32 + 64, np.uint8)
    start = -block.ctypes.data % 64
    body = block[start : start + len(head) + 32]
    body[: len(head)] = np.frombuffer(head, np.uint8)
    body[len(head) :] = np.arange(4.0).view(np.uint8)

    array = decode_request(memoryview(body), len(head), model(), LIMITS)[0].inputs["x"]
    assert array.tolist() == [0, 1, 2, 3]
    assert np.shares_memory(array, block)
    assert not array.flags.writeable
    body[len(head) :] = np.full(4, 9.0).view(np.uint8)
    assert array.tolist() == [9, 9, 9, 9]


def test_tensors_that_are_not_aligned_are_copied_to_where_they_are() -> None:
    head = json.dumps({"inputs": [binary_input("x", "FP64", [4], 32)]}).encode()
    head += b" " * (-len(head) % 64)
    block = np.zeros(len(head) + 32 + 64, np.uint8)
    start = -block.ctypes.data % 64 + 1
    body = block[start : start + len(head) + 32]
    body[: len(head)] = np.frombuffer(head, np.uint8)
    body[len(head) :] = np.arange(4.0).view(np.uint8)

    array = decode_request(memoryview(body), len(head), model(), LIMITS)[0].inputs["x"]
    assert array.tolist() == [0, 1, 2, 3]
    assert not np.shares_memory(array, block)
    assert array.flags.aligned
    assert not array.flags.writeable


def test_all_decoded_arrays_are_read_only() -> None:
    request, _ = decode(
        {
            "inputs": [
                X,
                json_input("t", "BYTES", [1], ["a"]),
                binary_input("b", "BF16", [1], 2),
                binary_input("o", "BOOL", [1], 1),
                binary_input("s", "BYTES", [1], 4),
            ]
        },
        bytes(7),
    )
    writeable = {name: array.flags.writeable for name, array in request.inputs.items()}
    assert writeable == dict.fromkeys(["x", "t", "b", "o", "s"], False)


# Raw requests


def raw(body: bytes, *inputs: TensorSpec) -> np.ndarray:
    request, plan = decode_request(memoryview(body), 0, model(*inputs), LIMITS)
    assert plan == ReplyPlan((), True)
    assert request.outputs == ()
    ((name, array),) = request.inputs.items()
    assert name == inputs[0].name
    return array


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ((6,), (6,)),
        ((2, 3), (2, 3)),
        ((-1, 3), (2, 3)),
        ((1, -1), (1, 6)),
        ((-1, -1, 3), (1, 2, 3)),
        ((-1, -1), (1, 6)),
    ],
)
def test_raw_request(declared: tuple[int, ...], shape: tuple[int, ...]) -> None:
    array = raw(np.arange(6, dtype="<f4").tobytes(), TensorSpec("x", "FP32", declared))
    np.testing.assert_array_equal(array, np.arange(6, dtype=np.float32).reshape(shape), strict=True)


def test_raw_request_of_bytes_is_one_element_without_length() -> None:
    array = raw(b"\xff\xd8jpeg", TensorSpec("x", "BYTES", (-1, 1)))
    assert array.shape == (1, 1)
    assert array.tolist() == [[b"\xff\xd8jpeg"]]


def test_an_empty_raw_request() -> None:
    assert raw(b"", TensorSpec("x", "FP32", (-1, 3))).shape == (0, 3)
    assert raw(b"", TensorSpec("x", "FP32", (-1, 0))).shape == (0, 0)


@pytest.mark.parametrize(
    ("inputs", "size", "says"),
    [
        ([], 4, "declares 0"),
        ([TensorSpec("x", "FP32", (1,)), TensorSpec("y", "FP32", (1,))], 4, "declares 2"),
        ([TensorSpec("x", "FP32", (1, -1, -1, 2))], 8, "too open"),
        ([TensorSpec("x", "FP32", (-1, -1, -1))], 8, "too open"),
        ([TensorSpec("x", "FP32", (2,))], 7, "need 8 bytes, but 7 came"),
        ([TensorSpec("x", "FP32", (-1, 3))], 16, "need 12 bytes, but 16 came"),
        ([TensorSpec("x", "FP32", (-1, 0))], 4, "need 0 bytes, but 4 came"),
        ([TensorSpec("x", "BYTES", (2,))], 4, "holds one element"),
        ([TensorSpec("x", "BOOL", (1,))], 1, "there is a 120"),
    ],
)
def test_raw_requests_that_say_too_little(inputs: list[TensorSpec], size: int, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        decode_request(memoryview(b"x" * size), 0, model(*inputs), LIMITS)
