from __future__ import annotations

import numpy as np
import pytest

from pelton.errors import InvalidRequest
from pelton.messages import InferResponse
from pelton.specs import TensorSpec
from pelton.tensors import DATATYPES
from pelton.wire.plain import error_value, reply_value, to_inputs
from wire.oip_bodies import SAMPLES, model

POLICY = model(takes_objects=True)


def tensor(value: object, datatype: str) -> np.ndarray:
    return to_inputs(value, model(TensorSpec("x", datatype, (-1,))))["x"]


def assert_is(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)


# Whose value is it


def test_an_object_model_gets_the_callers_dict_as_it_is() -> None:
    value = {"instruction": "go", "state": np.ones(6), "n": {"a": [1, None]}}
    assert to_inputs(value, POLICY) is value


@pytest.mark.parametrize("value", [[1], "go", None, np.ones(3), 1.5])
def test_an_object_model_takes_nothing_else(value: object) -> None:
    with pytest.raises(InvalidRequest, match="'m' takes a dict by name, not a"):
        to_inputs(value, POLICY)


def test_keys_are_text() -> None:
    for metadata in (POLICY, model(TensorSpec("x", "FP32", (1,)))):
        with pytest.raises(InvalidRequest, match=r"the key 5 is no text"):
            to_inputs({5: 1}, metadata)


def test_a_dict_names_the_inputs() -> None:
    two = model(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "INT8", (-1,)))
    inputs = to_inputs({"b": [1, 2], "a": [3]}, two)
    assert list(inputs) == ["b", "a"]
    assert_is(inputs["a"], np.array([3], np.float32))
    assert_is(inputs["b"], np.array([1, 2], np.int8))
    assert to_inputs({"a": [1]}, two).keys() == {"a"}
    with pytest.raises(InvalidRequest, match=r"'m' has no input 'c'; it takes a, b"):
        to_inputs({"a": [1], "c": [2]}, two)
    with pytest.raises(InvalidRequest, match=r"'m' takes a dict with a, b, not a list"):
        to_inputs([1], two)


def test_a_bare_value_is_the_only_input() -> None:
    array = np.arange(3, dtype=np.float32)
    assert tensor(array, "FP32") is array
    assert tensor({"x": array}, "FP32") is array


# Which datatype


@pytest.mark.parametrize("datatype", SAMPLES)
def test_arrays_of_the_declared_datatype_pass(datatype: str) -> None:
    assert_is(tensor(SAMPLES[datatype], datatype), SAMPLES[datatype])


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (np.array([0.1]), "FP32", np.array([0.1], np.float32)),
        (np.array([0.1]), "FP16", np.array([0.1], np.float16)),
        (np.array([0.1]), "BF16", np.array([0.1], np.float32)),
        (np.array([np.inf, np.nan]), "FP32", np.array([np.inf, np.nan], np.float32)),
        (np.array([0.5], np.float16), "FP64", np.array([0.5])),
        (np.array([[0, 255]], np.uint8), "FP32", np.array([[0, 255]], np.float32)),
        (np.array([1, 2]), "FP32", np.array([1, 2], np.float32)),
        (np.array([0, 255]), "UINT8", np.array([0, 255], np.uint8)),
        (np.array([5], np.uint64), "INT8", np.array([5], np.int8)),
        (np.array([], np.int64), "UINT8", np.array([], np.uint8)),
        (np.array([0.1], ">f4"), "FP32", np.array([0.1], np.float32)),
        (np.float64(0.5), "FP32", np.array(0.5, np.float32)),
        (np.array(["ä", "b"]), "BYTES", np.array(["ä".encode(), b"b"], object)),
        (np.array([b"\xff"]), "BYTES", np.array([b"\xff"], object)),
        (np.array([["a", b"b"]], object), "BYTES", np.array([[b"a", b"b"]], object)),
    ],
)
def test_arrays_whose_numbers_fit(value: object, datatype: str, expected: np.ndarray) -> None:
    assert_is(tensor(value, datatype), expected)


@pytest.mark.parametrize(
    ("value", "datatype", "says"),
    [
        (np.array([300]), "UINT8", "array of int64 holds numbers that UINT8 cannot hold"),
        (np.array([-1]), "UINT64", "UINT64 cannot hold"),
        (np.array([2**63], np.uint64), "INT64", "INT64 cannot hold"),
        (np.array([1e39]), "FP32", "array of float64 holds numbers that FP32 cannot hold"),
        (np.array([70_000]), "FP16", "FP16 cannot hold"),
        (np.array([1.0]), "INT32", "array of float64 does not fit INT32; send int32"),
        (np.array([True]), "FP32", "array of bool does not fit FP32; send float32"),
        (np.array([1]), "BOOL", "array of int64 does not fit BOOL; send bool"),
        (np.array(["1"]), "FP32", "does not fit FP32"),
        (np.array([1], object), "INT32", "array of object does not fit INT32"),
        (np.array([1j]), "FP32", "array of complex128 does not fit FP32"),
        (np.array([1.0]), "BYTES", "array of float64 does not fit BYTES; send text"),
        (np.array([1], object), "BYTES", "BYTES elements are text or bytes, not 1"),
    ],
)
def test_arrays_whose_numbers_do_not_fit(value: object, datatype: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'x': .*{says}"):
        tensor(value, datatype)


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        ([[1, 2], [3, 4]], "FP32", np.array([[1, 2], [3, 4]], np.float32)),
        ([1, 2.5, "NaN"], "FP64", np.array([1, 2.5, np.nan])),
        ((1, (2)), "INT8", np.array([1, 2], np.int8)),
        ([[0.5]], "FP16", np.array([[0.5]], np.float16)),
        ([0.1], "BF16", np.array([0.1], np.float32)),
        (3, "INT64", np.array(3)),
        (True, "BOOL", np.array(True)),
        ("go", "BYTES", np.array(b"go", object)),
        (["go", b"\xff"], "BYTES", np.array([b"go", b"\xff"], object)),
        ([], "FP32", np.array([], np.float32)),
        ([[], []], "UINT8", np.empty((2, 0), np.uint8)),
        ([np.float32(0.5), 1], "FP32", np.array([0.5, 1], np.float32)),
        ([[np.uint8(7)]], "INT32", np.array([[7]], np.int32)),
    ],
)
def test_lists_and_scalars(value: object, datatype: str, expected: np.ndarray) -> None:
    assert_is(tensor(value, datatype), expected)


@pytest.mark.parametrize(
    ("value", "datatype", "says"),
    [
        ([300], "UINT8", "300 is out of the range of UINT8"),
        ([1.5], "INT32", "1.5 is no element of INT32"),
        ([1e39], "FP32", "is out of the range of FP32"),
        ([70_000], "FP16", "is out of the range of FP16"),
        ([True, 1], "INT32", "True is no element of INT32"),
        ([[1, 2], [3]], "FP32", "unequal length or depth"),
        ([1, [2]], "FP32", "unequal length or depth"),
        (None, "FP32", "None is no element of FP32"),
        ([{"a": 1}], "FP32", "a dict is no element of FP32"),
        ([np.ones(2), np.ones(2)], "FP64", "a ndarray is no element of FP64"),
        ("1.5", "FP32", "'1.5' is no element of FP32"),
        ("x" * 10_000, "FP32", "is no element of FP32"),
    ],
)
def test_lists_and_scalars_that_do_not_fit(value: object, datatype: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'x': .*{says}") as caught:
        tensor(value, datatype)
    assert len(caught.value.message) < 200


def test_nesting_deeper_than_arrays_go() -> None:
    value: object = 1
    for _ in range(33):
        value = [value]
    with pytest.raises(InvalidRequest, match="33 dimensions"):
        tensor(value, "INT32")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_converted_array_has_the_dtype_that_the_engine_wants(datatype: str) -> None:
    value = {"BYTES": ["a"], "BOOL": [True]}.get(datatype, [1])
    assert tensor(value, datatype).dtype == DATATYPES[datatype].dtype


# Replies


def test_one_output_is_the_bare_value() -> None:
    action = np.ones(3)
    reply = reply_value(InferResponse("m", "1", {"action": action}))
    assert list(reply) == ["status", "output"]
    assert reply["status"] == "ok"
    assert reply["output"] is action


@pytest.mark.parametrize("outputs", [{"a": 1, "b": [2]}, {}])
def test_several_outputs_go_by_name(outputs: dict[str, object]) -> None:
    reply = reply_value(InferResponse("m", "1", outputs))
    assert reply == {"status": "ok", "output": outputs}


def test_errors() -> None:
    assert error_value("why") == {"status": "error", "message": "why"}
