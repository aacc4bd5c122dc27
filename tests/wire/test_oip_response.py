from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.errors import InvalidRequest, ModelFailed
from pelton.messages import InferResponse
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.classification import classify
from pelton.wire.oip_message import EncodedMessage, ReplyPlan, WantedOutput
from pelton.wire.oip_response import encode_response
from wire.oip_bodies import ANY_MODEL, model

JSON = ReplyPlan()
BINARY = ReplyPlan(binary=True)


def encode(
    outputs: dict[str, object],
    plan: ReplyPlan = JSON,
    metadata: ModelMetadata = ANY_MODEL,
    **further: str,
) -> EncodedMessage:
    return encode_response(InferResponse("m", "1", outputs, **further), plan, metadata)


def header_of(message: EncodedMessage) -> dict[str, object]:
    head = bytes(message.chunks[0])
    assert message.header_bytes in (None, len(head))
    return json.loads(head)


def data_of(value: object, **metadata: object) -> tuple[str, list[int], list[object]]:
    (output,) = header_of(encode({"y": value}, metadata=model(**metadata)))["outputs"]
    return output["datatype"], output["shape"], output["data"]


def test_json_and_binary_side_by_side() -> None:
    plan = ReplyPlan((WantedOutput("a", True), WantedOutput("b", False)))
    message = encode({"a": np.array([1, 2], np.uint8), "b": np.array([3], np.int16)}, plan)
    assert header_of(message) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {
                "name": "a",
                "datatype": "UINT8",
                "shape": [2],
                "parameters": {"binary_data_size": 2},
            },
            {"name": "b", "datatype": "INT16", "shape": [1], "data": [3]},
        ],
    }
    assert [bytes(chunk) for chunk in message.chunks[1:]] == [b"\x01\x02"]
    assert message.size == message.header_bytes + 2


@pytest.mark.parametrize("binary", [True, False])
def test_the_plan_of_an_output_goes_before_the_plan_of_all(binary: bool) -> None:
    plan = ReplyPlan((WantedOutput("a", not binary),), binary)
    outputs = header_of(encode({"a": np.ones(1), "b": np.ones(1)}, plan))["outputs"]
    assert ["data" in output for output in outputs] == [binary, not binary]


def test_id_is_echoed_only_if_there_is_one() -> None:
    assert "id" not in header_of(encode({"y": np.ones(1)}))
    told = header_of(encode({"y": np.ones(1)}, id='a"\n\u6f22'))
    assert told["id"] == 'a"\n\u6f22'
    assert list(told) == ["model_name", "model_version", "id", "outputs"]


def test_no_outputs() -> None:
    assert header_of(encode({}, BINARY))["outputs"] == []


def test_big_outputs_are_not_copied() -> None:
    tensor = np.arange(1000, dtype=np.float32)
    message = encode({"y": tensor}, BINARY)
    assert np.shares_memory(np.frombuffer(message.chunks[1], np.uint8), tensor)


def test_binary_data_begins_at_a_multiple_of_64() -> None:
    for name_length in range(70):
        message = encode({"y" * (name_length + 1): np.ones(3)}, BINARY)
        assert message.header_bytes % 64 == 0
        header_of(message)


def test_equal_headers_carry_the_tensors_of_their_own() -> None:
    first = encode({"y": np.array([1, 2], np.uint8)}, BINARY)
    second = encode({"y": np.array([3, 4], np.uint8)}, BINARY, id="r")
    third = encode({"y": np.array([[5, 6]], np.uint8)}, BINARY)
    assert bytes(first.chunks[1]) == b"\x01\x02"
    assert bytes(second.chunks[1]) == b"\x03\x04"
    assert header_of(second)["id"] == "r"
    assert header_of(third)["outputs"][0]["shape"] == [1, 2]


def test_bf16_where_it_is_declared() -> None:
    declared = model(outputs=(TensorSpec("y", "BF16", (2,)),))
    message = encode({"y": np.array([1.0, -2.0], np.float32)}, BINARY, declared)
    assert header_of(message)["outputs"][0]["datatype"] == "BF16"
    assert bytes(message.chunks[1]) == b"\x80\x3f\x00\xc0"


def test_the_dtype_tells_the_datatype_whatever_was_declared() -> None:
    declared = {"outputs": (TensorSpec("y", "FP32", (1,)),)}
    assert data_of(np.array([0.5]), **declared) == ("FP64", [1], [0.5])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_json_form(datatype: str) -> None:
    declared = model(outputs=(TensorSpec("y", datatype, (1,)),))
    value = np.ones(1, np.float16 if datatype == "FP16" else np.float32)
    with pytest.raises(InvalidRequest, match=f"'y': {datatype} has no JSON form; ask for binary"):
        encode({"y": value}, metadata=declared)


def test_b23_floats_that_are_not_finite_are_named() -> None:
    value = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert data_of(value) == ("FP32", [4], ["NaN", "Infinity", "-Infinity", 1.0])


def test_bytes_that_are_no_text() -> None:
    value = np.array([b"\xff"], object)
    with pytest.raises(InvalidRequest, match="'y' is not UTF-8 text; ask for binary data"):
        encode({"y": value})
    assert bytes(encode({"y": value}, BINARY).chunks[1]) == b"\x01\x00\x00\x00\xff"


# Values that are no arrays, or unusual ones


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (3, ("INT64", [], [3])),
        (2.5, ("FP64", [], [2.5])),
        (True, ("BOOL", [], [True])),
        ("ä", ("BYTES", [], ["ä"])),
        (b"a\x00", ("BYTES", [], ["a\x00"])),
        ([1, 2], ("INT64", [2], [1, 2])),
        ([[1.5], [2]], ("FP64", [2, 1], [1.5, 2.0])),
        (["a", b"b\x00"], ("BYTES", [2], ["a", "b\x00"])),
        ([["a"], ["bcd"]], ("BYTES", [2, 1], ["a", "bcd"])),
        ((1, 2), ("INT64", [2], [1, 2])),
        (np.float32(0.5), ("FP32", [], [0.5])),
        ([np.int8(1), np.int8(2)], ("INT8", [2], [1, 2])),
        (np.array(["a", "bc"]), ("BYTES", [2], ["a", "bc"])),
        (np.array([b"a", b"bc"]), ("BYTES", [2], ["a", "bc"])),
        (np.array([["a", b"b"]], object), ("BYTES", [1, 2], ["a", "b"])),
        (np.array([1, 2], ">i4"), ("INT32", [2], [1, 2])),
    ],
)
def test_values_that_cleanly_become_arrays(
    value: object, written: tuple[str, list[int], list[object]]
) -> None:
    assert data_of(value) == written


@pytest.mark.parametrize(
    "value",
    [
        None, {"a": 1}, [1, "a"], [True, "a"], [[1, 2], [3]], [{"a": 1}], [None], 1j, 2**70,
        np.array([1j]), np.array(["2020"], "datetime64[D]"), np.zeros(2, "i4,f4"),
        np.array([1, None], object), "\ud800", object(), np.longdouble(1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plan", [JSON, BINARY])
def test_values_that_do_not(value: object, plan: ReplyPlan) -> None:
    with pytest.raises(ModelFailed, match="output 'y'") as caught:
        encode({"y": value}, plan)
    assert len(caught.value.message) < 300


# Classification


def classes(scores: np.ndarray, most: int, labels: tuple[str, ...] = ()) -> list[object]:
    return classify(scores, most, labels, "output 'y'").tolist()


@pytest.mark.parametrize(
    ("scores", "written"),
    [
        (np.array([0.1, 0.7, 0.2], np.float32), [b"0.7:1", b"0.2:2"]),
        (np.array([1e-9, 3e-9, 2.0]), [b"2.0:2", b"3e-09:1"]),
        (np.array([5, 250, 7], np.uint8), [b"250:1", b"7:2"]),
        (np.array([-(2**63), 2**63 - 1, 0]), [b"9223372036854775807:1", b"0:2"]),
        (np.array([0, 2**64 - 1, 1], np.uint64), [b"18446744073709551615:1", b"1:2"]),
        (np.array([False, True, False]), [b"True:1", b"False:0"]),
        (np.array([1.0, 1.0, 1.0]), [b"1.0:0", b"1.0:1"]),
        (np.array([np.nan, 1.0, np.nan, 2.0]), [b"2.0:3", b"1.0:1"]),
        (np.array([np.nan, -np.inf]), [b"-inf:1", b"nan:0"]),
        (np.array([3.5]), [b"3.5:0"]),
        (np.array([1, 3, 2], ">i4"), [b"3:1", b"2:2"]),
    ],
)
def test_the_two_highest_classes(scores: np.ndarray, written: list[bytes]) -> None:
    assert classes(scores, 2) == written


def test_of_many_equal_scores_the_first_come_first() -> None:
    scores = np.tile([0.5, 1.0], 500)
    assert classes(scores, 3) == [b"1.0:1", b"1.0:3", b"1.0:5"]
    assert classes(scores, 502)[-2:] == [b"0.5:0", b"0.5:2"]


def test_classes_of_a_batch_with_labels() -> None:
    scores = np.array([[0.5, 0.25, 0.0], [0.0, 0.25, 0.5]])
    written = [[b"0.5:0:cat", b"0.25:1:d\xc3\xb6g"], [b"0.5:2", b"0.25:1:d\xc3\xb6g"]]
    assert classes(scores, 2, ("cat", "dög")) == written
    assert classify(scores[None], 9, (), "y").shape == (1, 2, 3)
    assert classify(np.empty((0, 4)), 2, (), "y").shape == (0, 2)


@pytest.mark.parametrize("scores", [np.array(1.0), np.array([b"a"], object)])
def test_what_holds_no_scores(scores: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="'y' holds no scores"):
        classes(scores, 1)


@pytest.mark.parametrize("binary", [True, False])
def test_classification_as_an_output(binary: bool) -> None:
    metadata = model(labels={"": ("no", "yes")}, outputs=(TensorSpec("y", "BF16", (-1, 2)),))
    plan = ReplyPlan((WantedOutput("y", binary, 1),))
    message = encode({"y": np.array([[0.25, 0.75]], np.float32)}, plan, metadata)
    (output,) = header_of(message)["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    if binary:
        assert bytes(message.chunks[1]) == b"\x0a\x00\x00\x000.75:1:yes"
    else:
        assert output["data"] == ["0.75:1:yes"]


@pytest.mark.parametrize("count", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_a_long_tensor_is_written_as_json_in_slices_that_join(count: int) -> None:
    values = np.arange(count, dtype=np.int32)
    metadata = ModelMetadata("m", "1", "p", (), ())
    encoded = encode_response(InferResponse("m", "1", {"y": values}), ReplyPlan(), metadata)
    (entry,) = json.loads(b"".join(encoded.chunks))["outputs"]
    assert entry == {"name": "y", "datatype": "INT32", "shape": [count], "data": values.tolist()}
