from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.errors import ConnectionFailed, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.oip_client import decode_response, encode_request
from wire.oip_bodies import LIMITS, binary_input, joined, json_input


def header_of(*arguments: object, **named: object) -> dict[str, object]:
    message = encode_request(*arguments, **named)
    return json.loads(bytes(message.chunks[0]))


def test_all_outputs_as_binary_data() -> None:
    assert header_of({"x": np.ones((2, 1), np.float32)}) == {
        "inputs": [binary_input("x", "FP32", [2, 1], 8)],
        "parameters": {"binary_data_output": True},
    }


def test_named_outputs_id_and_parameters() -> None:
    told = header_of({}, ["p", "q"], request_id="r", parameters={"priority": 1, "note": "a"})
    binary = {"binary_data": True}
    assert told == {
        "id": "r",
        "parameters": {"priority": 1, "note": "a"},
        "inputs": [],
        "outputs": [{"name": "p", "parameters": binary}, {"name": "q", "parameters": binary}],
    }


def test_the_callers_parameters_are_left_alone() -> None:
    parameters = {"a": 1}
    header_of({}, parameters=parameters)
    assert parameters == {"a": 1}


def test_big_inputs_are_not_copied_and_begin_at_a_multiple_of_64() -> None:
    tensors = {"x": np.arange(1000.0), "y": np.zeros((3, 5), np.uint8)}
    message = encode_request(tensors)
    for chunk, tensor in zip(message.chunks[1:], tensors.values(), strict=True):
        assert np.shares_memory(np.frombuffer(chunk, np.uint8), tensor)
    assert message.header_bytes % 64 == 0
    assert message.size == message.header_bytes + 8015


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array(["a"]), "BYTES"),
        (np.array([b"a"]), "BYTES"),
        (np.array(["a"], object), "BYTES"),
        (np.array([1], ">u2"), "UINT16"),
    ],
)
def test_datatypes_that_follow_from_the_array(array: np.ndarray, datatype: str) -> None:
    assert header_of({"x": array})["inputs"][0]["datatype"] == datatype


@pytest.mark.parametrize(
    ("array", "named", "says"),
    [
        (np.ones(1), {"datatypes": {"x": "BF16"}}, "is FP64, so it cannot be sent as BF16"),
        (np.ones(1), {"datatypes": {"x": "FP32"}}, "is FP64, so it cannot be sent as FP32"),
        (np.ones(1), {"datatypes": {"x": "float"}}, "unknown datatype"),
        (np.ones(1, complex), {}, "complex128 has no datatype"),
        (np.array([1], object), {}, "input 'x': BYTES elements are text or bytes"),
        (np.array(["\ud800"]), {}, "surrogate"),
        (np.ones(1), {"parameters": {"triton_x": 1}}, "reserved"),
    ],
)
def test_what_cannot_be_sent(array: np.ndarray, named: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        encode_request({"x": array}, **named)


def test_outputs_are_views_of_the_answer() -> None:
    block = np.zeros(64 + 64 + 16, np.uint8)
    start = -block.ctypes.data % 64
    head = json.dumps({"outputs": [binary_input("y", "FP64", [2], 16)]}).encode()
    size = len(head) + -len(head) % 64
    block = np.zeros(64 + size + 16, np.uint8)
    start = -block.ctypes.data % 64
    body = block[start : start + size + 16]
    body[:size] = np.frombuffer(head.ljust(size), np.uint8)
    response = decode_response(memoryview(body), size, LIMITS)
    assert np.shares_memory(response.outputs["y"], block)


@pytest.mark.parametrize(
    ("answer", "tail"),
    [
        ([], b""),
        (None, b""),
        ({}, b""),
        ({"outputs": None}, b""),
        ({"error": "x"}, b""),
        (b"<html>", b""),
        (b"\xff", b""),
        ({"outputs": [binary_input("y", "FP32", [2], 8)]}, bytes(7)),
        ({"outputs": [binary_input("y", "FP32", [2], 8)]}, bytes(9)),
        ({"outputs": [json_input("y", "INT8", [2], [1])]}, b""),
        ({"outputs": [json_input("y", "INT8", [1], [1])] * 2}, b""),
    ],
)
def test_what_is_no_answer(answer: object, tail: bytes) -> None:
    body, header_bytes = joined(answer, tail)
    with pytest.raises(ConnectionFailed, match="the server's answer cannot be read: "):
        decode_response(body, header_bytes, LIMITS)


def test_limits_hold_for_answers_too() -> None:
    body, header_bytes = joined({"outputs": [json_input("y", "FP64", [2], [1, 2])]})
    decode_response(body, header_bytes, Limits(max_body_bytes=16))
    with pytest.raises(ConnectionFailed, match="16 bytes of memory; at most 15"):
        decode_response(body, header_bytes, Limits(max_body_bytes=15))
