"""Wrong requests that are all JSON, over the Open Inference Protocol: 400, and why."""

from __future__ import annotations

import pytest

from hostile.conditions import Conditions, assert_error
from hostile.echo_requests import GOOD, LIVE, nested, raw, x
from oip_messages import (
    binary_tensor,
    json_body,
    tensor,
)
from raw_http import Wire, chunked, plain
from support_server import ServerProcess

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
    "a datatype that is a list": ("echo_fp32", x(["FP32"], [1], [1]), "datatype"),
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
    "a name that is a number": ("echo_fp32", json_body(tensor(1, "FP32", [1], [1])), "no name"),
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
