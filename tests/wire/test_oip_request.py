"""What a request says, and the checks B on its JSON, names and parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pelton.errors import Code
from pelton.specs import TensorSpec
from pelton.tensors import DATATYPES
from pelton.wire.limits import Limits
from pelton.wire.oip_message import ReplyPlan, WantedOutput
from pelton.wire.oip_request import decode_request
from wire.oip_bodies import (
    LIMITS,
    assert_refused,
    binary_input,
    decode,
    joined,
    json_input,
    model,
)

X = json_input("x", "INT32", [2], [1, 2])


def with_x(**fields: object) -> dict[str, object]:
    return {"inputs": [X], **fields}


# What a request says


def test_a_request_in_full() -> None:
    request, plan = decode(
        {
            "id": "r-1",
            "parameters": {"priority": 2, "timeout": 1500, "timing": True,
                           "note": "a", "rate": 0.5, "dry": True, "binary_data_output": True},
            "inputs": [X, binary_input("b", "UINT8", [2, 1], 2)],
            "outputs": [
                {"name": "p"},
                {"name": "q", "parameters": {"binary_data": False, "classification": 3}},
            ],
        },
        b"\x07\x08",
    )  # fmt: skip
    assert (request.model, request.version, request.id) == ("m", None, "r-1")
    assert request.parameters == {"note": "a", "rate": 0.5, "dry": True}
    assert (request.priority, request.deadline_s) == (2, 0.0015)
    assert request.outputs == ("p", "q")
    assert list(request.inputs) == ["x", "b"]
    np.testing.assert_array_equal(request.inputs["x"], np.array([1, 2], np.int32), strict=True)
    np.testing.assert_array_equal(request.inputs["b"], np.array([[7], [8]], np.uint8), strict=True)
    assert plan == ReplyPlan((WantedOutput("p", True), WantedOutput("q", False, 3)), True, True)


def test_a_request_in_short() -> None:
    request, plan = decode({"inputs": []})
    assert (request.id, request.outputs, dict(request.parameters)) == ("", (), {})
    assert dict(request.inputs) == {}
    assert plan == ReplyPlan((), False, False)
    assert (request.priority, request.deadline_s) == (0, math.inf)
    assert decode(with_x(outputs=[], parameters={}))[1] == ReplyPlan((), False)


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT8", "FP16"])
def test_the_elements_of_the_only_input_are_told_as_they_came(datatype: str) -> None:
    tail = bytes(range(16))
    count = 16 // (DATATYPES[datatype].wire_bytes or 1)
    request, _ = decode({"inputs": [binary_input("x", datatype, [count], 16)]}, tail)
    assert request.elements is not None
    assert bytes(request.elements) == tail == request.inputs["x"].tobytes()


@pytest.mark.parametrize(
    ("inputs", "tail"),
    [
        ([], b""),
        ([X], b""),
        ([binary_input("x", "FP32", [0], 0)], b""),
        ([binary_input("x", "BOOL", [1], 1)], b"\x01"),
        ([binary_input("x", "BF16", [1], 2)], b"\x01\x02"),
        ([binary_input("x", "BYTES", [1], 5)], b"\x01\x00\x00\x00a"),
        ([X, binary_input("b", "UINT8", [1], 1)], b"a"),
        ([binary_input("a", "UINT8", [1], 1), binary_input("b", "UINT8", [1], 1)], b"ab"),
    ],
    ids=["none", "JSON", "empty", "BOOL", "BF16", "BYTES", "beside JSON", "two"],
)
def test_those_of_others_are_not(inputs: list[object], tail: bytes) -> None:
    assert decode({"inputs": inputs}, tail)[0].elements is None


def test_a_body_without_a_header_length_is_all_json() -> None:
    body, _ = joined(with_x())
    request, _ = decode_request(body, None, model(), LIMITS)
    assert request.inputs["x"].tolist() == [1, 2]


def test_name_and_version_in_the_body_may_repeat_the_address() -> None:
    decode(with_x(model_name="m", model_version="1"))
    decode(with_x(model_version=""))
    assert_refused(with_x(model_name="n"), says="for model 'n', but it was sent to 'm'")
    assert_refused(with_x(model_version="2"), says="for version '2', but it was sent to '1'")


@pytest.mark.parametrize("nested", [[[1, 2], [3, 4]], [1, 2, 3, 4], [[1, 2, 3, 4]]])
def test_data_may_be_nested_or_flat(nested: list[object]) -> None:
    request, _ = decode({"inputs": [json_input("x", "FP32", [2, 2], nested)]})
    np.testing.assert_array_equal(
        request.inputs["x"], np.array([[1, 2], [3, 4]], np.float32), strict=True
    )


def test_a_scalar_is_one_element() -> None:
    request, _ = decode({"inputs": [json_input("x", "FP64", [], [2])]})
    np.testing.assert_array_equal(request.inputs["x"], np.array(2.0), strict=True)


def test_json_data_leaves_the_binary_part_to_the_others() -> None:
    request, _ = decode(
        {"inputs": [binary_input("a", "UINT8", [1], 1), X, binary_input("c", "UINT8", [1], 1)]},
        b"\x01\x02",
    )
    assert [value.tolist() for value in request.inputs.values()] == [[1], [1, 2], [2]]


# B3 to B6: the JSON itself


@pytest.mark.parametrize("top", [[], 3, None, "inputs", True])
def test_b6_wrong_top(top: object) -> None:
    assert_refused(top, says="must be a JSON object")


def test_b3_b5_broken_json() -> None:
    code = Code.MALFORMED_REQUEST
    assert_refused(b'{"inputs":[],"inputs":[]}', says="'inputs' twice", code=code)
    assert_refused(b'{"inputs":[', says="broken", code=code)
    assert_refused(b"\xff\xfe{\x00}\x00", says="not UTF-8", code=code)
    assert_refused(b'{"inputs":[],"id":"\\ud800"}', says="surrogate", code=code)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("output", 'did you mean "outputs"?'),
        ("Inputs", 'did you mean "inputs"?'),
        ("paramters", 'did you mean "parameters"?'),
        ("zzz", "known are id, parameters"),
        ("x" * 10_000, "known are"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, says: str) -> None:
    assert_refused(with_x(**{key: []}), says=says)


def test_unknown_keys_of_tensors() -> None:
    assert_refused({"inputs": [{**X, "dtype": "FP32"}]}, says='did you mean "datatype"?')
    assert_refused(with_x(outputs=[{"name": "p", "data": []}]), says="unknown key 'data'")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"inputs": None}, '"inputs" must be a list'),
        ({"inputs": {"x": [1]}}, '"inputs" must be a list'),
        ({"inputs": [3]}, "an input must be a JSON object"),
        ({"inputs": [{**X, "name": ""}]}, "an input has no name"),
        ({"inputs": [{**X, "name": 5}]}, "an input has no name"),
        ({"outputs": {}}, '"outputs" must be a list'),
        ({"outputs": ["p"]}, "an output must be a JSON object"),
        ({"outputs": [{}]}, "an output has no name"),
        ({"id": 7}, '"id" must be a string'),
        ({"model_name": 7}, '"model_name" must be a string'),
        ({"parameters": []}, '"parameters" of the request must be a JSON object'),
        ({"parameters": {"a": None}}, "parameter 'a' of the request must be a string"),
        ({"parameters": {"a": [1]}}, "parameter 'a' of the request must be a string"),
        ({"parameters": {"a": {}}}, "parameter 'a' of the request must be a string"),
        ({"parameters": {"binary_data_output": 1}}, '"binary_data_output" must be a boolean'),
        ({"inputs": [{**X, "parameters": {"n": None}}]}, "parameter 'n' of input 'x'"),
    ],
)
def test_fields_of_the_wrong_kind(fields: dict[str, object], says: str) -> None:
    assert_refused(with_x(**fields), says=says)


@pytest.mark.parametrize("key", ["timeout", "priority"])
@pytest.mark.parametrize("value", [-1, 1.0, "5", True, 2**63, int("9" * 4000)])
def test_times_and_priorities_are_whole_numbers(key: str, value: object) -> None:
    says = f'the parameter "{key}" must be a whole number'
    assert_refused(with_x(parameters={key: value}), says=says)


@pytest.mark.parametrize("value", [1, "true", 0.5])
def test_timing_is_asked_for_with_a_boolean(value: object) -> None:
    assert_refused(with_x(parameters={"timing": value}), says='"timing" must be a boolean')


def test_a_time_out_counts_from_the_arrival_and_none_is_none() -> None:
    body, _ = joined(with_x(parameters={"timeout": 250_000}))
    request, _ = decode_request(body, None, model(), LIMITS, 100.0)
    assert request.deadline_s == 100.25
    request, _ = decode(with_x(parameters={"timeout": 0, "priority": 0, "timing": False}))
    assert (request.deadline_s, request.priority) == (math.inf, 0)
    assert request.parameters == {}


def test_inputs_are_required() -> None:
    assert_refused({"id": "a"}, says='has no "inputs"')


# B19, B20: names and parameters


def test_b19_names_that_come_twice() -> None:
    assert_refused({"inputs": [X, X]}, says="input 'x' is there twice")
    outputs = [{"name": "p"}, {"name": "q"}, {"name": "p"}]
    assert_refused(with_x(outputs=outputs), says="output 'p' is there twice")


def test_b19_unknown_outputs() -> None:
    knows = model(outputs=(TensorSpec("p", "FP32", (1,)), TensorSpec("q", "FP32", (1,))))
    request, _ = decode(with_x(outputs=[{"name": "q"}]), metadata=knows)
    assert request.outputs == ("q",)
    outputs = [{"name": "q"}, {"name": "P\n"}]
    says = "model 'm' has no output 'P\\n'; it gives p, q"
    assert_refused(with_x(outputs=outputs), says=says, metadata=knows)
    decode(with_x(outputs=outputs))  # declares nothing, so nothing is known


@pytest.mark.parametrize("key", ["triton_", "triton_enable_empty_final_response", "headers"])
def test_b20_reserved_parameters(key: str) -> None:
    assert_refused(with_x(parameters={key: True}), says=f"{key!r} is reserved")


@pytest.mark.parametrize("key", ["region", "byte_size", "offset"])
def test_shared_memory_is_not_enabled(key: str) -> None:
    parameters = {f"shared_memory_{key}": 1}
    entry = {key: value for key, value in X.items() if key != "data"} | {"parameters": parameters}
    assert_refused({"inputs": [entry]}, says="input 'x': shared memory is not enabled")
    outputs = [{"name": "p", "parameters": parameters}]
    assert_refused(with_x(outputs=outputs), says="output 'p': shared memory is not enabled")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"binary_data": 1}, '"binary_data" must be a boolean'),
        ({"binary_data": "true"}, '"binary_data" must be a boolean'),
        ({"classification": -1}, '"classification" must be'),
        ({"classification": 1.0}, '"classification" must be'),
        ({"classification": True}, '"classification" must be'),
        ({"classification": "3"}, '"classification" must be'),
    ],
)
def test_output_parameters(parameters: dict[str, object], says: str) -> None:
    outputs = [{"name": "p", "parameters": parameters}]
    assert_refused(with_x(outputs=outputs), says=f"output 'p': {says}")


def test_names_from_strangers_are_told_escaped_and_short() -> None:
    name = "\x1b[31m\n" + "x" * 10_000
    assert_refused({"inputs": [json_input(name, "INT8", [1], [])]}, says="input '\\x1b[31m\\n")


# The memo


def test_equal_headers_do_not_share_tensors_or_parameters() -> None:
    header = {"parameters": {"n": 1}, "inputs": [binary_input("x", "UINT8", [2], 2)]}
    first, _ = decode(header, b"\x01\x02")
    first.parameters["n"] = 2  # type: ignore[index]
    second, _ = decode(header, b"\x03\x04")
    assert first.inputs["x"].tolist() == [1, 2]
    assert second.inputs["x"].tolist() == [3, 4]
    assert second.parameters == {"n": 1}


def test_equal_headers_are_judged_again_for_another_body_model_or_limit() -> None:
    header = {"inputs": [binary_input("x", "UINT8", [2], 2)], "outputs": [{"name": "p"}]}
    decode(header, b"\x01\x02")
    assert_refused(header, b"\x01", says="1 bytes are left", code=Code.MALFORMED_REQUEST)
    assert_refused(header, b"\x01\x02\x03", says="3 follow", code=Code.MALFORMED_REQUEST)
    other = model(outputs=(TensorSpec("q", "FP32", (1,)),))
    assert_refused(header, b"\x01\x02", says="no output 'p'", metadata=other)
    limits = Limits(max_body_bytes=1)
    assert_refused(header, b"\x01\x02", says="2 bytes", code=Code.TOO_LARGE, limits=limits)
    decode(header, b"\x01\x02")
