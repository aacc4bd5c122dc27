"""Inference at the bounds of what is allowed, and the costs of what lies beyond them."""

from __future__ import annotations

import json
import struct

import pytest

from hostile.conditions import MIB, Conditions, assert_error
from hostile.echo_requests import FP32, GOOD, LIVE, head, nested, raw, x
from oip_messages import (
    binary_body,
    binary_request,
    binary_tensor,
    json_body,
    read_reply,
    tensor,
)
from pelton.tensors import DATATYPES
from raw_http import Wire, plain
from support_server import ServerProcess


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
            header = head(binary_tensor("x", name, [0], 0), parameters={"binary_data_output": True})
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
    """18 MB of digits would be 72 MB of floats; BYTES cost memory for each element."""
    count = 9 * MIB
    digits = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP64","data":[%s]}]}' % (
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
            (plain(FP32, digits), 8 * count),
            (nothings, 2 * MIB * 48 + 8 * MIB),
            (halves, 80 * MIB),
        ):
            said = assert_error(wire.ask(request), 413)
            assert f"would take {size} bytes" in said["error"]
            assert wire.ask(LIVE).status == 200


def test_json_has_a_limit_of_its_own(target: ServerProcess, conditions: Conditions) -> None:
    """Binary data may be as large as a body; JSON of that size would hold up everybody else."""
    digits = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    with conditions.unharmed(), Wire(target.port) as wire:
        padded = digits + b" " * (32 * MIB - len(digits))
        assert wire.ask(plain(FP32, padded)).status == 200
        said = assert_error(wire.ask(plain(FP32, padded + b" ")), 413)
        assert "send big tensors as binary data" in said["error"]


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
