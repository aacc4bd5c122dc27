"""Inference requests that are wrong, over the Open Inference Protocol: 400 or 413, and why."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from hostile.conditions import MIB, Conditions, assert_error
from oip_messages import (
    binary_body,
    binary_request,
    binary_tensor,
    bytes_elements,
    json_body,
    read_reply,
    tensor,
)
from pelton.tensors import DATATYPES
from raw_http import Wire, chunked, get, plain
from support_server import ServerProcess

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

WRONG: dict[str, tuple[str, bytes, str]] = {
    # B1
    "65 deep": ("echo_fp32", nested(65), "64 levels"),
    "250 000 deep": ("echo_fp32", nested(250_000), "64 levels"),
    "250 000 open lists": ("echo_fp32", b"[" * 250_000, "64 levels"),
    "250 000 open objects": ("echo_fp32", b'{"a":' * 250_000, "64 levels"),
    "250 000 brackets and no braces": ("echo_fp32", b"]" * 250_000, "broken"),
    # B2
    "NaN": ("echo_fp32", raw("[NaN]"), 'the string "NaN"'),
    "Infinity": ("echo_fp32", raw("[Infinity]"), 'the string "Infinity"'),
    "-Infinity": ("echo_fp32", raw("[-Infinity]"), 'the string "-Infinity"'),
    "1e999": ("echo_fp32", raw("[1e999]"), "too large"),
    "-1e999": ("echo_fp32", raw("[-1e999]"), "too large"),
    "1e39 as FP32": ("echo_fp32", raw("[1e39]"), "out of the range of FP32"),
    "a string as a float": ("echo_fp32", raw('["nan"]'), "no element of FP32"),
    # B3
    "two inputs keys": ("echo_fp32", b'{"inputs":[],' + GOOD[1:], "twice"),
    "two data keys": ("echo_fp32", raw('[1], "data": [2]'), "twice"),
    "an escaped second key": ("echo_fp32", raw('[1], "d\\u0061ta": [2]'), "twice"),
    # B4
    "2^63 as INT64": ("echo_int64", x("INT64", [1], [2**63]), "out of the range of INT64"),
    "2^64 as UINT64": ("echo_uint64", x("UINT64", [1], [2**64]), "out of the range of UINT64"),
    "-1 as UINT64": ("echo_uint64", x("UINT64", [1], [-1]), "out of the range of UINT64"),
    "2^64 as a float": ("echo_int64", x("INT64", [1], [1.8446744073709552e19]), "no element"),
    "5 000 digits": ("echo_int64", raw("[" + "9" * 5000 + "]").replace(b"FP32", b"INT64"), "digit"),
    "5 000 digits as FP32": ("echo_fp32", raw("[" + "9" * 5000 + "]"), "digit"),
    "4 000 digits as FP32": ("echo_fp32", raw("[" + "9" * 4000 + "]"), "out of the range"),
    # B5
    "cut short": ("echo_fp32", GOOD[:-1], "broken"),
    "empty": ("echo_fp32", b"", "broken"),
    "blank": ("echo_fp32", b"  \r\n ", "broken"),
    "something behind it": ("echo_fp32", GOOD + b"x", "broken"),
    "two of them": ("echo_fp32", GOOD + GOOD, "broken"),
    "a byte order mark": ("echo_fp32", b"\xef\xbb\xbf" + GOOD, "JSON"),
    "UTF-16": ("echo_fp32", GOOD.decode().encode("utf-16"), "UTF-8"),
    "UTF-16 without a mark": ("echo_fp32", GOOD.decode().encode("utf-16-le"), "JSON"),
    "latin-1": ("echo_bytes", x("BYTES", [1], ["a"]).replace(b'"a"', b'"\xe4"'), "UTF-8"),
    "half a surrogate pair": ("echo_bytes", x("BYTES", [1], ["\ud800"]), "surrogate"),
    "half of one as a name": ("echo_fp32", GOOD.replace(b'"x"', b'"\\ud800"'), "surrogate"),
    "an overlong slash": ("echo_bytes", x("BYTES", [1], ["a"]).replace(b"a", b"\xc0\xaf"), ""),
    "a bare NUL in a string": ("echo_bytes", x("BYTES", [1], ["@"]).replace(b"@", b"\0"), "broken"),
    "a comma too many": ("echo_fp32", raw("[1,]"), "broken"),
    "single quotes": ("echo_fp32", GOOD.replace(b'"', b"'"), "broken"),
    "a comment": ("echo_fp32", b"/* */" + GOOD, "broken"),
    "a hexadecimal number": ("echo_fp32", raw("[0x1]"), "broken"),
    "a leading zero": ("echo_fp32", raw("[01]"), "broken"),
    "a plus sign": ("echo_fp32", raw("[+1]"), "broken"),
    "XML": ("echo_fp32", b"<?xml version='1.0'?><a/>", "broken"),
    # B6
    "a list": ("echo_fp32", b"[]", "JSON object"),
    "a number": ("echo_fp32", b"1", "JSON object"),
    "null": ("echo_fp32", b"null", "JSON object"),
    "a string": ("echo_fp32", b'"inputs"', "JSON object"),
    "an empty object": ("echo_fp32", b"{}", 'no "inputs"'),
    "inputs null": ("echo_fp32", b'{"inputs":null}', '"inputs" must be a list'),
    "inputs an object": ("echo_fp32", b'{"inputs":{}}', '"inputs" must be a list'),
    "an input null": ("echo_fp32", b'{"inputs":[null]}', "an input must be a JSON object"),
    "an input a list": ("echo_fp32", b'{"inputs":[[]]}', "an input must be a JSON object"),
    "an unknown key": ("echo_fp32", GOOD[:-1] + b',"input":[]}', 'did you mean "inputs"'),
    "an unknown key of an input": ("echo_fp32", GOOD.replace(b'"data"', b'"dat"'), '"data"'),
    "an id that is a number": ("echo_fp32", GOOD[:-1] + b',"id":1}', '"id" must be a string'),
    "parameters a list": ("echo_fp32", GOOD[:-1] + b',"parameters":[]}', "JSON object"),
    "a parameter null": ("echo_fp32", GOOD[:-1] + b',"parameters":{"a":null}}', "'a'"),
    "a parameter a list": ("echo_fp32", GOOD[:-1] + b',"parameters":{"a":[1]}}', "'a'"),
    "outputs an object": ("echo_fp32", GOOD[:-1] + b',"outputs":{}}', '"outputs" must be a list'),
    # B7 to B11
    "a negative dimension": ("echo_fp32", x("FP32", [-1], [1]), "dimension -1"),
    "two negative dimensions": ("echo_fp32", x("FP32", [-1, -1], [1]), "dimension -1"),
    "2^32 x 2^32": ("echo_fp32", x("FP32", [2**32, 2**32], [1]), "needs 18446744073709551616"),
    "2^4 x (2^60+2)": ("echo_fp32", x("FP32", [2**4, 2**60 + 2], [1] * 32), "needs"),
    "2^62 x 4": ("echo_fp32", x("FP32", [2**62, 4], []), "needs"),
    "2^64": ("echo_fp32", x("FP32", [2**64], [1]), "dimension 18446744073709551616"),
    "2^63 x 2": ("echo_fp32", x("FP32", [2**63, 2], []), "dimension"),
    "0 x 2^70": ("echo_fp32", x("FP32", [0, 2**70], []), "dimension"),
    "too few": ("echo_fp32", x("FP32", [3], [1, 2]), 'needs 3 elements, but "data" has 2'),
    "too many": ("echo_fp32", x("FP32", [3], [1, 2, 3, 4]), 'needs 3 elements, but "data" has 4'),
    "none": ("echo_fp32", x("FP32", [3], []), 'needs 3 elements, but "data" has 0'),
    "data for an empty shape": ("echo_fp32", x("FP32", [0], [1]), "needs 0 elements"),
    "uneven rows": ("rows", x("FP32", [2, 3], [[1, 2, 3], [4, 5]]), "unequal"),
    "uneven depth": ("rows", x("FP32", [1, 3], [[1, [2], 3]]), "unequal"),
    "a number beside a row": ("rows", x("FP32", [1, 3], [[1, 2, 3], 4]), "unequal"),
    "1 000 dimensions": ("echo_fp32", x("FP32", [1] * 1000, [1]), "1000 dimensions"),
    "33 dimensions": ("echo_fp32", x("FP32", [1] * 33, [1]), "33 dimensions"),
    "a float dimension": ("echo_fp32", x("FP32", [1.0], [1]), "dimension 1.0"),
    "a boolean dimension": ("echo_fp32", x("FP32", [True], [1]), "dimension True"),
    "a dimension in words": ("echo_fp32", x("FP32", ["1"], [1]), "dimension '1'"),
    "a dimension of null": ("echo_fp32", x("FP32", [None], [1]), "dimension None"),
    "a shape that is a number": ("echo_fp32", x("FP32", 1, [1]), '"shape" must be a list'),
    "no shape": ("echo_fp32", json_body({"name": "x", "datatype": "FP32", "data": [1]}), "shape"),
    "another rank": ("echo_fp32", x("FP32", [1, 1], [1]), "[1, 1], but the model wants [-1]"),
    "another width": ("rows", x("FP32", [1, 4], [1] * 4), "[1, 4], but the model wants [-1, 3]"),
    # B12
    "an unknown datatype": ("echo_fp32", x("FP8", [1], [1]), "unknown datatype 'FP8'"),
    "small letters": ("echo_fp32", x("fp32", [1], [1]), "unknown datatype 'fp32'"),
    "OBJECT": ("echo_fp32", x("OBJECT", [1], [1]), "unknown datatype 'OBJECT'"),
    "a numpy name": ("echo_fp32", x("<f4", [1], [1]), "unknown datatype"),
    "TYPE_FP32": ("echo_fp32", x("TYPE_FP32", [1], [1]), "unknown datatype"),
    "no datatype": ("echo_fp32", json_body({"name": "x", "shape": [1], "data": [1]}), "datatype"),
    "a datatype that is a list": ("echo_fp32", x(["FP32"], [1], [1]), "datatype"),  # type: ignore[arg-type]
    "another datatype": ("echo_fp32", x("FP64", [1], [1]), "FP64, but the model wants FP32"),
    "FP16 as JSON": ("echo_fp16", x("FP16", [1], [1]), "FP16 has no JSON form"),
    "BF16 as JSON": ("echo_bf16", x("BF16", [1], [1]), "BF16 has no JSON form"),
    # B13
    "300 as UINT8": ("echo_uint8", x("UINT8", [1], [300]), "300 is out of the range of UINT8"),
    "-1 as UINT8": ("echo_uint8", x("UINT8", [1], [-1]), "-1 is out of the range of UINT8"),
    "128 as INT8": ("echo_int8", x("INT8", [1], [128]), "128 is out of the range of INT8"),
    "1.5 as INT32": ("echo_int32", x("INT32", [1], [1.5]), "1.5 is no element of INT32"),
    "1.0 as INT32": ("echo_int32", x("INT32", [1], [1.0]), "1.0 is no element of INT32"),
    "true as INT32": ("echo_int32", x("INT32", [1], [True]), "True is no element of INT32"),
    "true as FP32": ("echo_fp32", x("FP32", [1], [True]), "True is no element of FP32"),
    "1 as BOOL": ("echo_bool", x("BOOL", [1], [1]), "1 is no element of BOOL"),
    "null as FP32": ("echo_fp32", x("FP32", [1], [None]), "None is no element of FP32"),
    "an object as FP32": ("echo_fp32", x("FP32", [1], [{}]), "dict is no element of FP32"),
    "a number as BYTES": ("echo_bytes", x("BYTES", [1], [1]), "1 is no element of BYTES"),
    "data that is a number": ("echo_fp32", x("FP32", [1], 1), '"data" must be a list'),
    "data that is a string": ("echo_bytes", x("BYTES", [1], "a"), '"data" must be a list'),
    "data that is null": ("echo_fp32", x("FP32", [1], None), '"data" must be a list'),
    # B19
    "no input": ("echo_fp32", b'{"inputs":[]}', "input 'x' is missing"),
    "one of two": ("pair", json_body(tensor("x0", "FP32", [1], [1])), "input 'x1' is missing"),
    "an unknown input": (
        "echo_fp32",
        json_body(tensor("x", "FP32", [1], [1]), tensor("y", "FP32", [1], [1])),
        "no input 'y'",
    ),
    "the same input twice": (
        "echo_fp32",
        json_body(tensor("x", "FP32", [1], [1]), tensor("x", "FP32", [1], [2])),
        "input 'x' is there twice",
    ),
    "no name": ("echo_fp32", json_body({"shape": [1], "datatype": "FP32", "data": [1]}), "no name"),
    "an empty name": ("echo_fp32", json_body(tensor("", "FP32", [1], [1])), "no name"),
    "a name that is a number": ("echo_fp32", json_body(tensor(1, "FP32", [1], [1])), "no name"),  # type: ignore[arg-type]
    "an unknown output": (
        "echo_fp32",
        json_body(tensor("x", "FP32", [1], [1]), outputs=[{"name": "z"}]),
        "no output 'z'",
    ),
    "the same output twice": (
        "echo_fp32",
        json_body(tensor("x", "FP32", [1], [1]), outputs=[{"name": "y"}, {"name": "y"}]),
        "output 'y' is there twice",
    ),
    "an output without a name": (
        "echo_fp32",
        json_body(tensor("x", "FP32", [1], [1]), outputs=[{}]),
        "no name",
    ),
    "257 inputs": (
        "echo_fp32",
        json_body(*[tensor(f"x{index}", "FP32", [1], [1]) for index in range(257)]),
        "at most 256",
    ),
    "257 outputs": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1], [1]), outputs=[{"name": str(index)} for index in range(257)]
        ),
        "at most 256",
    ),
    # B20
    "triton_": ("echo_fp32", GOOD[:-1] + b',"parameters":{"triton_x":1}}', "'triton_x'"),
    "headers": ("echo_fp32", GOOD[:-1] + b',"parameters":{"headers":"a"}}', "'headers'"),
    "a shared memory region": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1])
            | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}}
        ),
        "shared memory is not enabled",
    ),
    "shared memory for an output": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1], [1]),
            outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}],
        ),
        "shared memory is not enabled",
    ),
    "binary_data_output a number": (
        "echo_fp32",
        GOOD[:-1] + b',"parameters":{"binary_data_output":1}}',
        "binary_data_output",
    ),
    "binary_data a string": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1], [1]),
            outputs=[{"name": "y", "parameters": {"binary_data": "true"}}],
        ),
        "binary_data",
    ),
    "-1 classes": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1], [1]),
            outputs=[{"name": "y", "parameters": {"classification": -1}}],
        ),
        "classification",
    ),
    "1.5 classes": (
        "echo_fp32",
        json_body(
            tensor("x", "FP32", [1], [1]),
            outputs=[{"name": "y", "parameters": {"classification": 1.5}}],
        ),
        "classification",
    ),
    "classes of texts": (
        "echo_bytes",
        json_body(
            tensor("x", "BYTES", [1], ["a"]),
            outputs=[{"name": "y", "parameters": {"classification": 1}}],
        ),
        "no scores",
    ),
    "another model's name": (
        "echo_fp32",
        GOOD[:-1] + b',"model_name":"matmul"}',
        "for model 'matmul'",
    ),
    "another version": ("echo_fp32", GOOD[:-1] + b',"model_version":"2"}', "for version '2'"),
    "binary data announced in JSON": (
        "echo_fp32",
        json_body(binary_tensor("x", "FP32", [1], 4)),
        "4, but 0 bytes are left",
    ),
    "data and binary data": (
        "echo_fp32",
        json_body(binary_tensor("x", "FP32", [1], 4) | {"data": [1]}),
        "either",
    ),
}


@pytest.mark.parametrize(("model", "body", "why"), WRONG.values(), ids=WRONG.keys())
def test_wrong_json(
    target: ServerProcess, conditions: Conditions, model: str, body: bytes, why: str
) -> None:
    request = plain(f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            assert why in assert_error(wire.ask(request), 400)["error"]

        send()
        # The connection has come to no harm, and the other way in says the same.
        assert wire.ask(LIVE).status == 200
        reply = wire.ask(chunked(f"/v2/models/{model}/infer", body, chunk_bytes=1 << 16))
        assert why in assert_error(reply, 400)["error"]
        conditions.memory_settles(send, repeats=20 if len(body) > 10_000 else 100)


def head(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **more}


def sized(size: Any) -> dict[str, Any]:
    return head(binary_tensor("x", "FP32", [2], size))


EIGHT = b"\0" * 8
TEXT = bytes_elements(b"ab", b"c")

WRONG_BINARY: dict[str, tuple[str, dict[str, Any], bytes, str]] = {
    # B14
    "size -1": ("echo_fp32", sized(-1), EIGHT, '"binary_data_size" is -1'),
    "size 8.0": ("echo_fp32", sized(8.0), EIGHT, '"binary_data_size" is 8.0'),
    "size '8'": ("echo_fp32", sized("8"), EIGHT, "\"binary_data_size\" is '8'"),
    "size true": ("echo_fp32", sized(True), EIGHT, '"binary_data_size" is True'),
    "size 2^63": ("echo_fp32", sized(2**63), EIGHT, '"binary_data_size" is 9223372036854775808'),
    "size 2^64+8": ("echo_fp32", sized(2**64 + 8), EIGHT, "binary_data_size"),
    "more than there is": ("echo_fp32", sized(9), EIGHT, "8 bytes are left"),
    "more behind it": ("echo_fp32", sized(8), EIGHT + b"1", "9 follow the JSON"),
    "nothing of it": ("echo_fp32", sized(8), b"", "0 bytes are left"),
    "bytes for nobody": (
        "echo_fp32",
        head(tensor("x", "FP32", [1], [1])),
        EIGHT,
        "name 0 bytes of binary data, but 8 follow",
    ),
    "less than the shape": ("echo_fp32", sized(4), EIGHT[:4], "need 8 bytes, but 4 came"),
    "more than the shape": ("echo_fp32", sized(12), bytes(12), "need 8 bytes, but 12 came"),
    "half an element": ("echo_fp32", sized(7), EIGHT[:7], "need 8 bytes, but 7 came"),
    "together more than there is": (
        "pair",
        head(binary_tensor("x0", "FP32", [2], 8), binary_tensor("x1", "FP32", [2], 8)),
        bytes(12),
        "4 bytes are left",
    ),
    "a product of 2^64": (
        "echo_fp32",
        head(binary_tensor("x", "FP32", [2**32, 2**32], 0)),
        b"",
        "need 73786976294838206464 bytes",
    ),
    "a product of 2^64 + 32": (
        "echo_fp32",
        head(binary_tensor("x", "FP32", [2**4, 2**60 + 2], 128)),
        bytes(128),
        "but 128 came",
    ),
    # B17
    "a BOOL of 2": (
        "echo_bool",
        head(binary_tensor("x", "BOOL", [2], 2)),
        b"\1\2",
        "there is a 2",
    ),
    "BYTES that end in a length": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [2], len(TEXT) - 2)),
        TEXT[:-2],
        "not 2 elements",
    ),
    "BYTES that are longer": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [2], len(TEXT) + 1)),
        TEXT + b"d",
        "not 2 elements",
    ),
    "BYTES that are fewer": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [3], len(TEXT))),
        TEXT,
        "3 elements",
    ),
    "BYTES of 4 GB": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [1], 8)),
        struct.pack("<I", 2**32 - 1) + b"abcd",
        "not 1 elements",
    ),
    "2^62 BYTES": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [2**62], 8)),
        EIGHT,
        "need more than 8 bytes",
    ),
    "BYTES and no bytes": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [1], 0)),
        b"",
        "need more than 0 bytes",
    ),
    "bytes that are no text, wanted as JSON": (
        "echo_bytes",
        head(binary_tensor("x", "BYTES", [1], 5)),
        bytes_elements(b"\xff"),
        "not UTF-8 text",
    ),
    "FP16 wanted as JSON": (
        "echo_fp16",
        head(binary_tensor("x", "FP16", [1], 2)),
        b"\0\0",
        "FP16 has no JSON form",
    ),
}


@pytest.mark.parametrize(
    ("model", "header", "data", "why"), WRONG_BINARY.values(), ids=WRONG_BINARY.keys()
)
def test_wrong_binary(
    target: ServerProcess,
    conditions: Conditions,
    model: str,
    header: dict[str, Any],
    data: bytes,
    why: str,
) -> None:
    path = f"/v2/models/{model}/infer"
    request = binary_request(path, header, data)
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            assert why in assert_error(wire.ask(request), 400)["error"]

        send()
        assert wire.ask(LIVE).status == 200
        body, headers = binary_body(header, data)
        assert why in assert_error(wire.ask(chunked(path, body, headers)), 400)["error"]
        conditions.memory_settles(send)


@pytest.mark.parametrize(
    "length",
    ["99999999999", "9" * 40, "-1", "+5", "1_0", " ", "5.0", "0x10", "٥", "many", "1,2", "", "00" * 9],
)
def test_b15_wrong_lengths_of_the_json_part(
    target: ServerProcess, conditions: Conditions, length: str
) -> None:
    headers = {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    with conditions.unharmed(), Wire(target.port) as wire:
        for way in (plain, chunked):
            said = assert_error(wire.ask(way(FP32, GOOD, headers)), 400)
            assert "Inference-Header-Content-Length" in said["error"]
        conditions.memory_settles(lambda: assert_error(wire.ask(plain(FP32, GOOD, headers)), 400))


def test_b15_every_length_but_the_right_one(
    target: ServerProcess, conditions: Conditions
) -> None:
    body, headers = binary_body(sized(8), EIGHT)
    right = int(headers["Inference-Header-Content-Length"])
    with conditions.unharmed(), Wire(target.port) as wire:
        for length in range(1, len(body) + 10):
            said = {"Inference-Header-Content-Length": str(length)}
            reply = wire.ask(plain(FP32, body, said))
            if length == right:
                assert reply.status == 200
            else:
                assert_error(reply, 400)


def test_b15_the_length_said_twice(target: ServerProcess, conditions: Conditions) -> None:
    body, headers = binary_body(sized(8), EIGHT)
    twice = [*headers.items(), ("Inference-Header-Content-Length", "1")]
    with conditions.unharmed(), Wire(target.port) as wire:
        for way in (plain, chunked):
            assert_error(wire.ask(way(FP32, body, twice)), 400)


def test_a_binary_body_cut_at_every_byte(target: ServerProcess, conditions: Conditions) -> None:
    header = head(binary_tensor("x", "BYTES", [2], len(TEXT)))
    body, headers = binary_body(header, TEXT)
    with conditions.unharmed(), Wire(target.port) as wire:
        for cut in range(len(body)):
            assert_error(wire.ask(plain("/v2/models/echo_bytes/infer", body[:cut], headers)), 400)


# -- what is allowed -----------------------------------------------------------------------------


def test_b1_64_levels_are_read(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        assert read_reply(wire.ask(plain(FP32, nested(64))))["y"]["data"] == [1]
        # A bracket within a string opens nothing.
        said = assert_error(wire.ask(plain(FP32, raw('["' + "[" * 9999 + '"]'))), 400)
        assert "no element of FP32" in said["error"]


def test_b2_floats_without_a_number_have_names(
    target: ServerProcess, conditions: Conditions
) -> None:
    """And B23: what a model gives comes back as valid JSON under the same names."""
    data = [1.5, "NaN", "Infinity", "-Infinity"]
    with conditions.unharmed(), Wire(target.port) as wire:
        for datatype in ("FP32", "FP64"):
            path = f"/v2/models/echo_{datatype.lower()}/infer"
            reply = wire.ask(plain(path, x(datatype, [4], data)))
            assert reply.status == 200
            said = json.loads(reply.body, parse_constant=pytest.fail)
            assert said["outputs"][0]["data"] == data


def test_b10_empty_tensors_are_served(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        reply = wire.ask(plain("/v2/models/rows/infer", x("FP32", [0, 3], [])))
        assert read_reply(reply)["y"] == {
            "name": "y",
            "datatype": "FP32",
            "shape": [0, 3],
            "data": [],
        }
        for name, row in DATATYPES.items():
            path = f"/v2/models/echo_{name.lower()}/infer"
            if row.in_json:
                reply = wire.ask(plain(path, x(name, [0], [])))
                assert read_reply(reply)["y"]["data"] == []
            header = head(
                binary_tensor("x", name, [0], 0), parameters={"binary_data_output": True}
            )
            reply = wire.ask(binary_request(path, header))
            assert reply.status == 200
            assert "inference-header-content-length" not in reply.headers
            assert read_reply(reply)["y"]["shape"] == [0]


def test_b4_the_largest_integers_come_back_unrounded(
    target: ServerProcess, conditions: Conditions
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for name, values in (
            ("INT64", [2**63 - 1, -(2**63), 2**53 + 1]),
            ("UINT64", [2**64 - 1, 0, 2**53 + 1]),
        ):
            reply = wire.ask(plain(f"/v2/models/echo_{name.lower()}/infer", x(name, [3], values)))
            assert read_reply(reply)["y"]["data"] == values


def test_b18_what_grows_is_measured_grown(target: ServerProcess, conditions: Conditions) -> None:
    """40 MB of digits would be 80 MB of floats; BYTES cost memory for each element."""
    count = 20 * MIB
    digits = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%s]}]}' % (
        count,
        b",".join([b"1"] * count),
    )
    nothings = binary_request(
        "/v2/models/echo_bytes/infer",
        head(binary_tensor("x", "BYTES", [2 * MIB], 8 * MIB)),
        bytes(8 * MIB),
    )
    halves = binary_request(
        "/v2/models/echo_bf16/infer",
        head(binary_tensor("x", "BF16", [20 * MIB], 40 * MIB)),
        bytes(40 * MIB),
    )
    with conditions.unharmed(), Wire(target.port) as wire:
        for request, size in (
            (plain(FP32, digits), 4 * count),
            (nothings, 2 * MIB * 48 + 8 * MIB),
            (halves, 80 * MIB),
        ):
            said = assert_error(wire.ask(request), 413)
            assert f"would take {size} bytes" in said["error"]
            assert wire.ask(LIVE).status == 200


def test_millions_of_containers(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        body = raw("[" + ",".join(["[]"] * 3_000_000) + "]")
        assert_error(wire.ask(plain(FP32, body)), 400, 413)
        assert wire.ask(LIVE).status == 200


def test_keys_that_would_hash_alike(target: ServerProcess, conditions: Conditions) -> None:
    """Strings hash with a secret, integers cannot be keys: nothing here is quadratic."""
    keys = ",".join(f'"{index * (2**61 - 1)}":1' for index in range(100_000))
    with conditions.unharmed(), Wire(target.port) as wire:
        body = GOOD[:-1] + b',"parameters":{' + keys.encode() + b"}}"
        assert wire.ask(plain(FP32, body)).status == 200
        body = GOOD[:-1] + b",{" + keys.encode() + b"}}"
        assert_error(wire.ask(plain(FP32, body)), 400)


def test_b22_models_that_fail(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for name in ("raises", "exits"):
            path = f"/v2/models/{name}/infer"
            request = plain(path, json_body(tensor("value", "FP32", [1], [1])))

            def send(request: bytes = request, name: str = name) -> dict[str, str]:
                said = assert_error(wire.ask(request), 500)
                assert said["error"].startswith(f"model '{name}' raised ")
                assert "not for strangers" not in said["error"]
                return said

            request_id = send()["request_id"]
            assert "on purpose" in target.wait_for_log(f"request {request_id}")
            conditions.memory_settles(send, repeats=30)


def test_what_a_stranger_writes_forges_no_line_of_the_log(
    target: ServerProcess, conditions: Conditions
) -> None:
    forged = "2026-01-01 INFO ended\nERROR forged by a stranger"
    with conditions.unharmed(), Wire(target.port) as wire:
        for body in (
            json_body(tensor(forged, "FP32", [1], [1])),
            x(forged, [1], [1]),
            json_body(tensor("value", "FP32", [1], [1]), id=forged),
        ):
            wire.ask(plain("/v2/models/raises/infer", body, {"X-Request-Id": "a b\tc"}))
    assert "\nERROR forged" not in target.log()


def test_requests_that_differ_only_in_what_is_remembered_of_them(
    target: ServerProcess, conditions: Conditions
) -> None:
    """Heads and JSON parts are remembered: more of them than fit, and each answered as it says."""
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            for number in range(1500):
                header = head(binary_tensor("x", "FP32", [1], 4), id=f"id {number}")
                body, headers = binary_body(header, struct.pack("<f", number))
                reply = wire.ask(plain(FP32, body, {**headers, "X-Number": str(number)}))
                said = reply.json()
                assert (said["id"], said["outputs"][0]["data"]) == (f"id {number}", [number])

        send()
        conditions.memory_settles(send, repeats=1)
