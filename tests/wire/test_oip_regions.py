"""Tensors in shared memory, as requests and responses tell of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.messages import InferRequest, InferResponse
from pelton.specs import ModelMetadata, TensorSpec
from pelton.tensors import DATATYPES
from pelton.wire.array_bytes import Buffer
from pelton.wire.limits import Limits
from pelton.wire.oip_message import ReplyPlan
from pelton.wire.oip_regions import Place, Write
from pelton.wire.oip_request import decode_request
from pelton.wire.oip_response import encode_response
from pelton.wire.oip_tensors import encode_binary
from wire.oip_bodies import ANY_MODEL, LIMITS, SAMPLES, binary_input, joined, json_input


class Memory:
    """Regions that are bytearrays, and where they were looked for."""

    def __init__(self, **regions: bytearray) -> None:
        self.regions = regions
        self.asked: list[tuple[Place, str]] = []

    def view(self, place: Place, what: str) -> memoryview:
        self.asked.append((place, what))
        if place.region not in self.regions:
            raise InvalidRequest(f"{what}: no region")
        region = memoryview(self.regions[place.region]).toreadonly()
        return region[place.offset : place.offset + place.size]

    def writer(self, place: Place, what: str) -> Write:
        self.view(place, what)

        def write(data: Buffer) -> None:
            if len(data) > place.size:
                raise InvalidRequest(f"{what}: no room")
            self.regions[place.region][place.offset : place.offset + len(data)] = data

        return write


def placed(region: Any = "r", size: Any = 8, offset: Any = None) -> dict[str, Any]:
    told = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return told if offset is None else told | {"shared_memory_offset": offset}


def shared_input(name: str, datatype: str, shape: list[int], **where: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": placed(**where)}


def decode(
    header: dict[str, Any], *binaries: bytes, memory: Memory, limits: Limits = LIMITS
) -> tuple[InferRequest, ReplyPlan]:
    body, header_bytes = joined(header, *binaries)
    return decode_request(body, header_bytes, ANY_MODEL, limits, 0.0, memory)


def refusal(header: dict[str, Any], *binaries: bytes, memory: Memory | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(header, *binaries, memory=memory or Memory(r=bytearray(64)))
    assert len(caught.value.message) < 400
    return caught.value.message


# -- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", SAMPLES)
def test_every_datatype_is_read_from_its_region(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    raw = bytes(encode_binary(DATATYPES[datatype], tensor, "x"))
    memory = Memory(r=bytearray(b"-" * 16 + raw + b"-"))
    entry = shared_input("x", datatype, [1, 3], size=len(raw), offset=16)
    request, _ = decode({"inputs": [entry]}, memory=memory)
    np.testing.assert_array_equal(request.inputs["x"], tensor, strict=True)
    assert not request.inputs["x"].flags.writeable
    assert memory.asked == [(Place("r", 16, len(raw)), "input 'x'")]


def test_an_array_is_the_regions_memory() -> None:
    memory = Memory(r=bytearray(16))
    request, _ = decode({"inputs": [shared_input("x", "UINT8", [8])]}, memory=memory)
    memory.regions["r"][3] = 7
    assert request.inputs["x"].tolist() == [0, 0, 0, 7, 0, 0, 0, 0]


@pytest.mark.parametrize("again", range(2))
def test_a_request_says_whether_its_sender_can_still_write_to_it(again: int) -> None:
    memory = Memory(r=bytearray(16))
    placed_one, sent = shared_input("x", "UINT8", [8]), json_input("y", "UINT8", [1], [3])
    for inputs, changeable in (([sent, placed_one], True), ([sent], False)):
        request = decode({"inputs": inputs}, memory=memory)[0]
        assert (request.changeable, request.elements) == (changeable, None)


def test_a_boolean_cannot_be_changed_once_it_has_been_checked() -> None:
    memory = Memory(r=bytearray(8))
    request, _ = decode({"inputs": [shared_input("x", "BOOL", [8])]}, memory=memory)
    memory.regions["r"][:] = b"\xff" * 8
    assert request.inputs["x"].view(np.uint8).tolist() == [0] * 8


def test_shared_inputs_leave_the_binary_part_to_the_others() -> None:
    memory = Memory(r=bytearray(b"12345678"))
    inputs = [
        binary_input("a", "UINT8", [1], 1),
        shared_input("b", "UINT8", [8]),
        json_input("c", "UINT8", [1], [3]),
        binary_input("d", "UINT8", [1], 1),
    ]
    request, _ = decode({"inputs": inputs}, b"\x01\x04", memory=memory)
    assert [value.tolist() for value in request.inputs.values()] == [[1], [*b"12345678"], [3], [4]]


def test_nothing_of_a_region_is_remembered() -> None:
    header = {"inputs": [shared_input("x", "UINT8", [8])]}
    first, _ = decode(header, memory=Memory(r=bytearray(b"a" * 8)))
    second, _ = decode(header, memory=Memory(r=bytearray(b"b" * 8)))
    assert bytes(first.inputs["x"]) == b"a" * 8
    assert bytes(second.inputs["x"]) == b"b" * 8
    assert "no region" in refusal(header, memory=Memory())
    body, header_bytes = joined(header)
    with pytest.raises(InvalidRequest, match="shared memory is not enabled"):
        decode_request(body, header_bytes, ANY_MODEL, LIMITS)
    decode(header, memory=Memory(r=bytearray(8)))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"shared_memory_byte_size": 8}, '"shared_memory_region" must be the name of a region'),
        (placed(region=""), '"shared_memory_region" must be'),
        (placed(region=5), '"shared_memory_region" must be'),
        ({"shared_memory_region": "r"}, 'needs the parameter "shared_memory_byte_size"'),
        (placed(size=-1), '"shared_memory_byte_size" must be a number of bytes, not -1'),
        (placed(size=8.0), '"shared_memory_byte_size" must be'),
        (placed(size="8"), '"shared_memory_byte_size" must be'),
        (placed(size=True), '"shared_memory_byte_size" must be'),
        (placed(size=2**63), '"shared_memory_byte_size" must be'),
        (placed(size=int("9" * 4000)), '"shared_memory_byte_size" must be'),
        (placed(offset=-1), '"shared_memory_offset" must be a number of bytes, not -1'),
        (placed(offset=2**64 - 4), '"shared_memory_offset" must be'),
        (placed(offset=0.0), '"shared_memory_offset" must be'),
        (placed() | {"shared_memory_key": "k"}, "unknown parameter 'shared_memory_key'"),
        (placed() | {"shared_memory_": 1}, "unknown parameter 'shared_memory_'"),
    ],
)
def test_places_that_are_none(parameters: dict[str, Any], says: str) -> None:
    entry = {"name": "x", "datatype": "UINT8", "shape": [8], "parameters": parameters}
    assert says in refusal({"inputs": [entry]})
    good = {"inputs": [json_input("x", "UINT8", [1], [1])]}
    assert says in refusal(good | {"outputs": [{"name": "y", "parameters": parameters}]})


@pytest.mark.parametrize("size", [0, 7, 9, 64, 2**63 - 1])
def test_the_size_of_a_place_is_that_of_its_tensor(size: int) -> None:
    memory = Memory(r=bytearray(64))
    told = refusal({"inputs": [shared_input("x", "FP32", [2], size=size)]}, memory=memory)
    assert told == f"input 'x': its shape and FP32 need 8 bytes, but {size} came"
    assert memory.asked == []


def test_texts_fill_their_place() -> None:
    memory = Memory(r=bytearray(b"\x01\x00\x00\x00a" + bytes(59)))
    for size in (5, 6, 64):
        entry = shared_input("x", "BYTES", [1], size=size)
        if size == 5:
            request, _ = decode({"inputs": [entry]}, memory=memory)
            assert request.inputs["x"].tolist() == [b"a"]
        else:
            assert "are not 1 elements" in refusal({"inputs": [entry]}, memory=memory)
    many = shared_input("x", "BYTES", [10**12], size=64)
    assert "need more than 64 bytes" in refusal({"inputs": [many]}, memory=memory)


def test_a_tensor_lies_in_one_place() -> None:
    entry = shared_input("x", "UINT8", [8])
    assert "leave out its other data" in refusal({"inputs": [entry | {"data": [1] * 8}]})
    entry["parameters"]["binary_data_size"] = 8
    assert "leave out its other data" in refusal({"inputs": [entry]}, bytes(8))


def test_what_lies_in_regions_counts_with_the_rest() -> None:
    memory = Memory(r=bytearray(64))
    inputs = [shared_input(f"x{index}", "UINT8", [64], size=64) for index in range(3)]
    decode({"inputs": inputs}, memory=memory, limits=Limits(max_body_bytes=192))
    with pytest.raises(InvalidRequest, match="would take 192 bytes") as caught:
        decode({"inputs": inputs}, memory=memory, limits=Limits(max_body_bytes=191))
    assert caught.value.code is Code.TOO_LARGE


def test_texts_in_regions_count_with_what_they_cost_as_objects() -> None:
    memory = Memory(r=bytearray(b"\x3c\x00\x00\x00" + bytes(60)))
    header = {"inputs": [shared_input("x", "BYTES", [1], size=64)]}
    decode(header, memory=memory, limits=Limits(max_body_bytes=48 + 64))
    with pytest.raises(InvalidRequest, match="would take 112 bytes"):
        decode(header, memory=memory, limits=Limits(max_body_bytes=48 + 63))


def test_a_requests_own_parameters_tell_of_no_place() -> None:
    header = {"inputs": [json_input("x", "UINT8", [1], [1])], "parameters": placed()}
    assert refusal(header).startswith("the request: shared memory is not enabled")


# -- outputs -------------------------------------------------------------------------------------


def asking(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": [json_input("x", "UINT8", [1], [1])], "outputs": list(outputs)}


@pytest.mark.parametrize("datatype", SAMPLES)
def test_every_datatype_is_written_to_its_region(datatype: str) -> None:
    tensor = SAMPLES[datatype]
    raw = bytes(encode_binary(DATATYPES[datatype], tensor, "y"))
    memory = Memory(r=bytearray(b"-" * 256))
    where = placed(size=200, offset=16) | {"binary_data": False}
    _, plan = decode(asking({"name": "y", "parameters": where}), memory=memory)
    assert plan.all_binary
    metadata = ModelMetadata("m", "1", "test", (), (TensorSpec("y", datatype, (1, 3)),))
    reply = encode_response(InferResponse("m", "1", {"y": tensor}), plan, metadata)
    assert reply.header_bytes is None
    assert json.loads(b"".join(reply.chunks)) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {
                "name": "y",
                "datatype": datatype,
                "shape": [1, 3],
                "parameters": {
                    "shared_memory_region": "r",
                    "shared_memory_byte_size": len(raw),
                    "shared_memory_offset": 16,
                },
            }
        ],
    }
    written = bytes(memory.regions["r"])
    assert written == b"-" * 16 + raw + b"-" * (240 - len(raw))


def test_shared_and_sent_outputs_side_by_side() -> None:
    memory = Memory(r=bytearray(8))
    outputs = [
        {"name": "a", "parameters": {"binary_data": True}},
        {"name": "b", "parameters": placed()},
        {"name": "c"},
    ]
    _, plan = decode(asking(*outputs), memory=memory)
    assert not plan.all_binary
    values = {name: np.array([ord(name)], np.uint8) for name in "abc"}
    reply = encode_response(InferResponse("m", "1", values), plan, ANY_MODEL)
    whole = b"".join(reply.chunks)
    told = json.loads(whole[: reply.header_bytes])["outputs"]
    assert [("data" in each, "parameters" in each) for each in told] == [
        (False, True),
        (False, True),
        (True, False),
    ]
    assert whole[reply.header_bytes :] == b"a"
    assert memory.regions["r"] == b"b" + bytes(7)


def test_the_place_of_an_output_is_found_before_the_model_runs() -> None:
    told = refusal(asking({"name": "y", "parameters": placed(region="gone")}))
    assert told == "output 'y': no region"


def test_an_output_that_has_no_room_is_refused() -> None:
    _, plan = decode(asking({"name": "y", "parameters": placed()}), memory=Memory(r=bytearray(64)))
    answer = InferResponse("m", "1", {"y": np.zeros(9, np.uint8)})
    with pytest.raises(InvalidRequest, match="output 'y': no room"):
        encode_response(answer, plan, ANY_MODEL)


def test_an_output_that_may_be_sent_too_is_sent_where_it_has_no_room() -> None:
    memory = Memory(r=bytearray(8))
    both = {"name": "y", "parameters": placed() | {"binary_data": True}}
    _, plan = decode(asking(both), memory=memory)
    fits = encode_response(InferResponse("m", "1", {"y": np.ones(8, np.uint8)}), plan, ANY_MODEL)
    assert fits.header_bytes is None
    assert memory.regions["r"] == b"\x01" * 8
    texts = InferResponse("m", "1", {"y": np.array([b"12345"], object)})
    sent = encode_response(texts, plan, ANY_MODEL)
    assert b"".join(sent.chunks)[sent.header_bytes :] == b"\x05\x00\x00\x0012345"
    assert memory.regions["r"] == b"\x01" * 8


def test_classes_can_be_written_too() -> None:
    memory = Memory(r=bytearray(64))
    output = {"name": "y", "parameters": placed(size=64) | {"classification": 1}}
    _, plan = decode(asking(output), memory=memory)
    answer = InferResponse("m", "1", {"y": np.array([0.5, 2.0], np.float32)})
    reply = encode_response(answer, plan, ANY_MODEL)
    assert json.loads(b"".join(reply.chunks))["outputs"][0]["datatype"] == "BYTES"
    assert memory.regions["r"][:9] == b"\x05\x00\x00\x002.0:1"


def test_equal_requests_write_to_their_own_memory() -> None:
    header = asking({"name": "y", "parameters": placed()})
    first, second = Memory(r=bytearray(8)), Memory(r=bytearray(8))
    _, plan = decode(header, memory=first)
    decode(header, memory=second)
    encode_response(InferResponse("m", "1", {"y": np.ones(8, np.uint8)}), plan, ANY_MODEL)
    assert (sum(first.regions["r"]), sum(second.regions["r"])) == (8, 0)
