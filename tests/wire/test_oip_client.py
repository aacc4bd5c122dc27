from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.errors import ConnectionFailed, InvalidRequest
from pelton.messages import Timing
from pelton.wire.limits import Limits
from pelton.wire.oip_client import Sharing, decode_response, encode_request
from pelton.wire.oip_regions import Place
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


PLACED = {
    "shared_memory_region": "r",
    "shared_memory_byte_size": 24,
    "shared_memory_offset": 64,
}


def test_an_input_in_shared_memory_is_named_by_its_place() -> None:
    inputs = {"x": np.zeros(3), "small": np.ones(2, np.uint8)}
    message = encode_request(inputs, sharing=Sharing(inputs={"x": Place("r", 64, 24)}))
    header = json.loads(bytes(message.chunks[0]))
    assert header["inputs"] == [
        {"name": "x", "shape": [3], "datatype": "FP64", "parameters": PLACED},
        binary_input("small", "UINT8", [2], 2),
    ]
    assert [bytes(chunk) for chunk in message.chunks[1:]] == [b"\1\1"]


def test_a_request_that_is_all_in_shared_memory_still_tells_the_length_of_its_json() -> None:
    message = encode_request({"x": np.zeros(3)}, sharing=Sharing({"x": Place("r", 64, 24)}))
    assert message.header_bytes == message.size == len(message.chunks[0])


def test_an_output_is_wanted_in_its_place_and_sent_if_it_is_too_big_for_it() -> None:
    sharing = Sharing(outputs={"y": Place("r", 64, 24), "z": None})
    told = header_of({"x": np.ones(1)}, ["y", "z"], sharing=sharing)
    assert told["outputs"] == [
        {"name": "y", "parameters": {"binary_data": True, **PLACED}},
        {"name": "z", "parameters": {"binary_data": True}},
    ]


def test_requests_that_differ_only_in_their_places_are_not_confused() -> None:
    regions = [
        header_of({"x": np.zeros(3)}, sharing=Sharing({"x": Place(name, 0, 24)}))["inputs"][0]
        for name in ("one", "two")
    ]
    assert [each["parameters"]["shared_memory_region"] for each in regions] == ["one", "two"]


def shared_output(name: str, datatype: str, shape: object, **keys: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, **keys}


@pytest.mark.parametrize("told", [{}, {"parameters": PLACED}], ids=["silent", "repeated"])
def test_an_output_in_shared_memory_is_a_view_of_its_place(told: dict[str, object]) -> None:
    answer = {
        "outputs": [
            binary_input("first", "UINT8", [1], 1),
            shared_output("y", "FP32", [2, 1], **told),
            binary_input("last", "UINT8", [1], 1),
        ]
    }
    memory = np.zeros(16, np.float32)
    memory[:2] = 5, 7
    body, header_bytes = joined(answer, b"ab")
    for _ in range(2):
        outputs = decode_response(
            body, header_bytes, LIMITS, {"y": memory.view(np.uint8).data}
        ).outputs
        assert list(outputs) == ["first", "y", "last"]
        assert (outputs["first"], outputs["last"]) == (97, 98)
        np.testing.assert_array_equal(outputs["y"], [[5], [7]])
        assert np.shares_memory(outputs["y"], memory)
        assert not outputs["y"].flags.writeable


@pytest.mark.parametrize(
    "outputs",
    [
        [shared_output("y", "FP32", [3])],
        [shared_output("z", "FP32", [1])],
        [shared_output("y", "BYTES", [1])],
        [shared_output("y", "FP32", [-1])],
        [shared_output("y", "FP32", 1)],
        [shared_output("y", "FP99", [1])],
        [shared_output("", "FP32", [1])],
        [shared_output("y", "FP32", [1])] * 2,
        [shared_output("y", "FP32", [1]), json_input("y", "INT8", [1], [1])],
        [7],
    ],
)
def test_what_is_no_output_in_shared_memory(outputs: list[object]) -> None:
    body, header_bytes = joined({"outputs": outputs}, b"")
    with pytest.raises(ConnectionFailed, match="the server's answer cannot be read: "):
        decode_response(body, header_bytes, LIMITS, {"y": memoryview(bytes(8))})


def test_an_answer_tells_timing_and_digest() -> None:
    parts = {"receive_us": 1, "queue_us": 2, "batch_wait_us": 3, "compute_us": 4, "encode_us": 5}
    answer = {"outputs": [], "parameters": {**parts, "digest": "sha256:0"}}
    response = decode_response(*joined(answer, b""), LIMITS)
    assert response.timing == Timing(1e-6, 2e-6, 3e-6, 4e-6, 5e-6)
    assert response.digest == "sha256:0"
