"""Every datatype in both forms and both directions, and against Triton's own client."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from pelton.messages import InferResponse
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.oip_client import decode_response, encode_request
from pelton.wire.oip_message import EncodedMessage, ReplyPlan, WantedOutput
from pelton.wire.oip_request import decode_request
from pelton.wire.oip_response import encode_response
from wire.oip_bodies import ANY_MODEL, LIMITS, SAMPLES, joined, json_input, model

IN_JSON = [name for name in SAMPLES if name not in ("FP16", "BF16")]
NAMED = {np.inf: "Infinity", -np.inf: "-Infinity"}


def answering(datatype: str) -> ModelMetadata:
    return model(outputs=(TensorSpec("y", datatype, (-1, 3)),))


def body_of(message: EncodedMessage) -> memoryview:
    body = b"".join(message.chunks)
    assert len(body) == message.size
    return memoryview(body)


def plain(array: np.ndarray) -> list[object]:
    """Return the elements as JSON writes them."""
    flat = array.ravel().tolist()
    if array.dtype.kind == "f":
        return ["NaN" if each != each else NAMED.get(each, each) for each in flat]
    return [each.decode() if isinstance(each, bytes) else each for each in flat]


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)


# Our client and our server


@pytest.mark.parametrize("datatype", SAMPLES)
def test_our_client_to_our_server_and_back(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    sent = encode_request({"x": tensor}, datatypes={"x": datatype}, request_id="r")
    request, plan = decode_request(body_of(sent), sent.header_bytes, ANY_MODEL, LIMITS)
    assert_same(request.inputs["x"], tensor)

    answer = InferResponse("m", "1", {"y": request.inputs["x"]}, request.id)
    reply = encode_response(answer, plan, answering(datatype))
    response = decode_response(body_of(reply), reply.header_bytes, LIMITS)
    assert_same(response.outputs["y"], tensor)
    assert (response.model, response.version, response.id) == ("m", "1", "r")


@pytest.mark.parametrize("datatype", IN_JSON)
def test_json_in(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    body, _ = joined({"inputs": [json_input("x", datatype, [1, 3], plain(tensor))]})
    request, _ = decode_request(body, None, ANY_MODEL, LIMITS)
    assert_same(request.inputs["x"], tensor)


@pytest.mark.parametrize("datatype", IN_JSON)
def test_json_out(datatype: str) -> None:
    tensor = SAMPLES[datatype] if datatype != "BYTES" else SAMPLES["BYTES"][:, :2]
    reply = encode_response(InferResponse("m", "1", {"y": tensor}), ReplyPlan(), ANY_MODEL)
    assert reply.header_bytes is None
    (output,) = json.loads(body_of(reply).tobytes())["outputs"]
    assert output == {
        "name": "y",
        "datatype": datatype,
        "shape": list(tensor.shape),
        "data": plain(tensor),
    }
    assert_same(decode_response(body_of(reply), None, LIMITS).outputs["y"], tensor)


@pytest.mark.parametrize("datatype", SAMPLES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_tensors(datatype: str, shape: tuple[int, ...]) -> None:
    tensor = np.empty(shape, SAMPLES[datatype].dtype)
    sent = encode_request({"x": tensor}, datatypes={"x": datatype})
    assert sent.header_bytes is None
    request, plan = decode_request(body_of(sent), None, ANY_MODEL, LIMITS)
    assert_same(request.inputs["x"], tensor)
    reply = encode_response(InferResponse("m", "1", {"y": tensor}), plan, answering(datatype))
    assert reply.header_bytes is None
    assert_same(decode_response(body_of(reply), None, LIMITS).outputs["y"], tensor)


@pytest.mark.parametrize("datatype", SAMPLES)
def test_arrays_in_any_layout_and_byte_order(datatype: str) -> None:
    tensor = np.repeat(SAMPLES[datatype], 2, axis=0)
    layouts = [tensor.T, tensor[:, ::-1], tensor[0], tensor[0, 1:2].reshape(()), tensor[::2]]
    if tensor.dtype.itemsize > 1 and tensor.dtype.kind in "iuf":
        layouts.append(tensor.astype(tensor.dtype.newbyteorder(">")))
    for layout in layouts:
        sent = encode_request({"x": layout}, datatypes={"x": datatype})
        request, _ = decode_request(body_of(sent), sent.header_bytes, ANY_MODEL, LIMITS)
        assert_same(request.inputs["x"], layout.astype(tensor.dtype))


# Triton's client writes, our server reads


def triton_body(
    tensor: np.ndarray, datatype: str, binary: bool, **request: object
) -> tuple[memoryview, int | None]:
    sent = InferInput("x", list(tensor.shape), datatype)
    sent.set_data_from_numpy(tensor, binary_data=binary)
    body, header_bytes = InferenceServerClient.generate_request_body([sent], **request)
    return memoryview(body), header_bytes


def as_triton_wants(tensor: np.ndarray, datatype: str) -> np.ndarray:
    return tensor.astype(ml_dtypes.bfloat16) if datatype == "BF16" else tensor


@pytest.mark.parametrize("datatype", SAMPLES)
def test_tritonclient_binary_in(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    body, header_bytes = triton_body(as_triton_wants(tensor, datatype), datatype, True)
    request, plan = decode_request(body, header_bytes, ANY_MODEL, LIMITS)
    assert_same(request.inputs["x"], tensor)
    assert plan == ReplyPlan((), True)


@pytest.mark.parametrize("datatype", IN_JSON)
def test_tritonclient_json_in(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    if tensor.dtype.kind == "f":
        tensor = np.nan_to_num(tensor, posinf=2.0, neginf=-2.0)
    body, header_bytes = triton_body(tensor, datatype, False)
    assert header_bytes is None
    request, _ = decode_request(body, None, ANY_MODEL, LIMITS)
    assert_same(request.inputs["x"], tensor)


def test_tritonclient_outputs_and_parameters() -> None:
    body, header_bytes = triton_body(
        SAMPLES["FP32"],
        "FP32",
        True,
        outputs=[
            InferRequestedOutput("p"),
            InferRequestedOutput("q", binary_data=False, class_count=4),
        ],
        request_id="id-1",
        sequence_id=7,
        sequence_start=True,
        priority=3,
        timeout=500,
        parameters={"mine": "yes"},
    )
    request, plan = decode_request(body, header_bytes, ANY_MODEL, LIMITS)
    assert request.id == "id-1"
    assert request.outputs == ("p", "q")
    assert plan.outputs == (WantedOutput("p", True, 0), WantedOutput("q", False, 4))
    assert request.parameters == {
        "sequence_id": 7,
        "sequence_start": True,
        "sequence_end": False,
        "mine": "yes",
    }
    assert (request.priority, request.deadline_s) == (3, 0.0005)


# Our server writes, Triton's client reads


def triton_result(reply: EncodedMessage) -> InferResult:
    return InferResult.from_response_body(bytes(body_of(reply)), header_length=reply.header_bytes)


@pytest.mark.parametrize(
    ("datatype", "binary"),
    [*((datatype, True) for datatype in SAMPLES), *((datatype, False) for datatype in IN_JSON)],
)
def test_tritonclient_out(datatype: str, binary: bool) -> None:
    tensor = SAMPLES[datatype]
    answer = InferResponse("m", "7", {"first": np.arange(5, dtype=np.int8), "y": tensor}, "r")
    reply = encode_response(answer, ReplyPlan(binary=binary), answering(datatype))
    result = triton_result(reply)
    found = result.as_numpy("y")
    if datatype == "BYTES" and not binary:
        found = np.array([[text.encode() for text in found[0]]], object)
    assert_same(found.astype(tensor.dtype), tensor)
    assert result.as_numpy("first").tolist() == [0, 1, 2, 3, 4]
    said = result.get_response()
    assert (said["model_name"], said["model_version"], said["id"]) == ("m", "7", "r")


@pytest.mark.parametrize("datatype", SAMPLES)
def test_tritonclient_empty_out(datatype: str) -> None:
    empty = np.empty((0, 3), SAMPLES[datatype].dtype)
    for outputs in ({"y": empty}, {"y": empty, "z": np.ones(2, np.uint8)}):
        answer = InferResponse("m", "1", outputs)
        reply = encode_response(answer, ReplyPlan(binary=True), answering(datatype))
        assert (reply.header_bytes is None) == (len(outputs) == 1)
        assert triton_result(reply).as_numpy("y").shape == (0, 3)
