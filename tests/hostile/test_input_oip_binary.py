"""Wrong requests with binary tensors, over the Open Inference Protocol: 400, and why."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hostile.conditions import Conditions, assert_error
from hostile.echo_requests import FP32, GOOD, LIVE, head
from oip_messages import (
    binary_body,
    binary_request,
    binary_tensor,
    bytes_elements,
    tensor,
)
from raw_http import Wire, chunked, plain
from support_server import ServerProcess


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
    [
        "99999999999",
        "9" * 40,
        "-1",
        "+5",
        "1_0",
        " ",
        "5.0",
        "0x10",
        "٥",
        "many",
        "1,2",
        "",
        "00" * 9,
    ],
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


def test_b15_every_length_but_the_right_one(target: ServerProcess, conditions: Conditions) -> None:
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
