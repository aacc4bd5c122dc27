"""Wrong inputs at `/infer`, in its three formats."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from hostile.conditions import MIB, Conditions, assert_error, assert_users_error
from raw_http import RawReply, Wire, chunked, get, plain
from support_server import ServerProcess

LIVE = get("/v2/health/live")
JSON, PICKLE, MSGPACK = "application/json", "application/octet-stream", "application/msgpack"


def infer(wire: Wire, model: str, media_type: str, body: bytes) -> RawReply:
    return wire.ask(plain(f"/infer?model={model}", body, {"Content-Type": media_type}))


# -- bodies that cannot be read: the one error body, in JSON ----------------------------------------

UNREADABLE_JSON = {
    "65 deep": (b"[" * 65 + b"]" * 65, "64 levels"),
    "250 000 deep": (b"[" * 250_000 + b"]" * 250_000, "64 levels"),
    "NaN": (b'{"x": [NaN]}', '"NaN"'),
    "1e999": (b'{"x": [1e999]}', "too large"),
    "a key twice": (b'{"x": [1], "x": [2]}', "twice"),
    "5 000 digits": (b'{"x": [' + b"9" * 5000 + b"]}", "digits"),
    "cut short": (b'{"x": [1]', "broken"),
    "empty": (b"", "broken"),
    "a byte order mark": (b"\xef\xbb\xbf[1]", "JSON"),
    "UTF-16": ('{"x": [1]}'.encode("utf-16"), "UTF-8"),
    "half a surrogate pair": (b'{"x": ["\\ud800"]}', "surrogate"),
}


@pytest.mark.parametrize(("body", "why"), UNREADABLE_JSON.values(), ids=UNREADABLE_JSON.keys())
def test_unreadable_json(
    target: ServerProcess, conditions: Conditions, body: bytes, why: str
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            assert why in assert_error(infer(wire, "echo_fp32", JSON, body), 400)["error"]

        send()
        reply = wire.ask(
            chunked("/infer?model=echo_fp32", body, {"Content-Type": JSON}, chunk_bytes=1 << 16)
        )
        assert why in assert_error(reply, 400)["error"]
        assert wire.ask(LIVE).status == 200
        conditions.memory_settles(send, repeats=20 if len(body) > 10_000 else 100)


def packed(value: object) -> bytes:
    return bytes(msgpack.packb(value, default=msgpack_numpy.encode))


UNREADABLE_MSGPACK = {
    "empty": b"",
    "a list without end": b"\x91" * 250_000,
    "65 deep": b"\x91" * 65 + b"\x00",
    "a map of 4 G entries": b"\xdf\xff\xff\xff\xff",
    "a list of 4 G entries": b"\xdd\xff\xff\xff\xff\x00",
    "bin of 4 GB": b"\xc6\xff\xff\xff\xff\x00",
    "str of 4 GB": b"\xdb\xff\xff\xff\xff\x00",
    "ext of 4 GB": b"\xc9\xff\xff\xff\xff\x01\x00",
    "ext": b"\xd4\x01\x00",
    "a timestamp": bytes(msgpack.packb(dt.datetime.now(dt.UTC), datetime=True)),
    "the byte that is never used": b"\xc1",
    "something behind it": packed({"x": [1.0]}) + b"\x00",
    "cut short": packed({"x": [1.0]})[:-1],
    "text that is not UTF-8": b"\x81\xa1\xff\x01",
    "a key twice": b"\x82\xa1x\x01\xa1x\x02",
    "a list as a key": b"\x81\x90\x01",
    "a map as a key": b"\x81\x80\x01",
    "an object array": packed(
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickle.dumps([1])}
    ),
    "an array of void": packed(
        {b"nd": True, b"type": "|V8", b"kind": b"", b"shape": [1], b"data": bytes(8)}
    ),
    "an array of a structure": packed(
        {b"nd": True, b"type": [["a", "<f4"]], b"kind": b"V", b"shape": [1], b"data": bytes(4)}
    ),
    "fewer bytes than its shape": packed(
        {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [3], b"data": bytes(8)}
    ),
    "a shape of 2^32 x 2^32": packed(
        {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2**32, 2**32], b"data": b""}
    ),
    "a negative shape": packed(
        {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [-1], b"data": bytes(4)}
    ),
    "openpi's object array": packed(
        {b"__ndarray__": True, b"dtype": "O", b"shape": [1], b"data": bytes(8)}
    ),
    "complex": packed({b"complex": True, b"data": "1+2j"})[:-1],
}


@pytest.mark.parametrize("body", UNREADABLE_MSGPACK.values(), ids=UNREADABLE_MSGPACK.keys())
def test_unreadable_msgpack(target: ServerProcess, conditions: Conditions, body: bytes) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            said = assert_error(infer(wire, "plain", MSGPACK, body), 400)
            assert said["error"].startswith(("MessagePack: ", "an array: "))

        send()
        assert wire.ask(LIVE).status == 200
        conditions.memory_settles(send, repeats=20 if len(body) > 10_000 else 100)


class Runs:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _extension(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


UNREADABLE_PICKLES: dict[str, tuple[bytes, str]] = {
    "os.system, protocol 0": (b"os.system 0", "protocol 2 to 5"),
    "os.system, protocol 1": (b"os.system 1", "protocol 2 to 5"),
    **{
        f"os.system, protocol {protocol}": (b"os.system %d" % protocol, "system")
        for protocol in range(2, 6)
    },
    "empty": (b"", "pickle: "),
    "no stop": (pickle.dumps({"value": 1})[:-1], "pickle: "),
    "something behind it": (pickle.dumps({"value": 1}) + b"\0", "pickle: "),
    "two": (pickle.dumps({"value": 1}) * 2, "pickle: "),
    "eval": (pickle.dumps(Runs(eval, "1")), "eval"),
    "getattr": (pickle.dumps(Runs(getattr, "a", "upper")), "getattr"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x15core.multiarray.fromfile\x93.", "pickle: "),
    "an extension": (_extension(b"\x82\x01"), "pickle: "),
    "a persistent id": (b"\x80\x02X\x01\0\0\0aQ.", "pickle: "),
    "INST": (b"(ios\nsystem\n.", "pickle: "),
    "1 TB of bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b".", "pickle: "),
    "8 GB of zeros": (pickle.dumps(Runs(bytearray, 8 << 30)), "pickle: "),
    "a codec": (b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0rot13\x86R.", "pickle: "),
    "an array of objects": (pickle.dumps({"value": np.array([{}], object)}), "pickle: "),
    "an OrderedDict": (pickle.dumps(OrderedDict(a=1)), "OrderedDict"),
    "a datetime": (pickle.dumps({"value": dt.date(2026, 1, 1)}), "date"),
    "a path": (pickle.dumps({"value": Path("/")}), "Path"),
    "deep": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "pickle: "),
    "keys that would hash alike": (
        pickle.dumps({index * (2**61 - 1): 1 for index in range(50_000)}),
        "pickle: ",
    ),
    "no pickle": (b'{"value": 1}', "pickle: "),
    "a frame that lies": (b"PELTON5B" + struct.pack("<HHIQ", 1, 0, 1000, 5) + b"\0" * 50, "pickle"),
    "a frame of 4 G buffers": (b"PELTON5B" + struct.pack("<HHIQ", 1, 0, 2**32 - 1, 0), "pickle"),
}


@pytest.mark.parametrize(
    ("body", "why"), UNREADABLE_PICKLES.values(), ids=UNREADABLE_PICKLES.keys()
)
def test_unreadable_pickles(
    target: ServerProcess, conditions: Conditions, tmp_path: Path, body: bytes, why: str
) -> None:
    marker = tmp_path / "was here"
    if body.startswith(b"os.system"):
        body = pickle.dumps(Runs(os.system, f"touch '{marker}'"), int(body[-1:]))
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            said = assert_error(infer(wire, "plain", PICKLE, body), 400)
            assert said["error"].startswith("pickle: ")
            assert why in said["error"]

        send()
        reply = wire.ask(chunked("/infer?model=plain", body, {"Content-Type": PICKLE}))
        assert why in assert_error(reply, 400)["error"]
        assert wire.ask(LIVE).status == 200
        conditions.memory_settles(send, repeats=10 if len(body) > 10_000 else 100)
    assert not marker.exists()


def test_a_place_far_up_in_the_memo_costs_nothing(
    target: ServerProcess, conditions: Conditions
) -> None:
    """CPython's own unpickler would take 4 GB for these few bytes."""
    body = b"\x80\x02}X\x05\0\0\0valueK\x01s" + b"r" + struct.pack("<I", 2**28) + b"."
    before = target.rss_bytes()
    with conditions.unharmed(), Wire(target.port) as wire:
        for _ in range(100):
            reply = infer(wire, "plain", PICKLE, body)
            assert pickle.loads(reply.body) == {"status": "ok", "output": 1}
    assert target.rss_bytes() - before < 10 * MIB


# -- bodies that can be read, and are wrong: an answer in their own format --------------------------

WRONG_VALUES: dict[str, tuple[str, Any, str]] = {
    "a text": ("echo_fp32", "abc", "no element of FP32"),
    "a number for two inputs": ("pair", 1, "takes a dict with x0, x1"),
    "no input": ("echo_fp32", {}, "input 'x' is missing"),
    "one of two": ("pair", {"x0": [1.0]}, "input 'x1' is missing"),
    "an unknown input": ("echo_fp32", {"x": [1.0], "z": [1.0]}, "no input 'z'"),
    "null": ("echo_fp32", {"x": None}, "input 'x'"),
    "a dict for a tensor": ("echo_fp32", {"x": {"a": 1}}, "input 'x'"),
    "uneven rows": ("rows", {"x": [[1, 2, 3], [4, 5]]}, "unequal"),
    "another rank": ("echo_fp32", {"x": [[1.0]]}, "[1, 1], but the model wants [-1]"),
    "another width": ("rows", {"x": [[1.0]]}, "[1, 1], but the model wants [-1, 3]"),
    "300 as UINT8": ("echo_uint8", {"x": [300]}, "300 is out of the range of UINT8"),
    "-1 as UINT8": ("echo_uint8", {"x": [-1]}, "-1 is out of the range of UINT8"),
    "1.5 as INT32": ("echo_int32", {"x": [1.5]}, "1.5 is no element of INT32"),
    "true as FP32": ("echo_fp32", {"x": [True]}, "True is no element of FP32"),
    "1 as BOOL": ("echo_bool", {"x": [1]}, "1 is no element of BOOL"),
    "text as FP32": ("echo_fp32", {"x": ["1"]}, "no element of FP32"),
    "1e39 as FP32": ("echo_fp32", {"x": [1e39]}, "out of the range of FP32"),
    "2^63 as INT64": ("echo_int64", {"x": [2**63]}, "out of the range of INT64"),
    "an unknown model": ("nobody", {"x": [1.0]}, "unknown model 'nobody'"),
    "a list for a dict": ("plain", [1], "takes a dict by name"),
}

DUMPS = {
    JSON: lambda value: json.dumps(value).encode(),
    PICKLE: lambda value: pickle.dumps(value, 5),
    MSGPACK: packed,
}
LOADS = {JSON: json.loads, PICKLE: pickle.loads, MSGPACK: msgpack.unpackb}


@pytest.mark.parametrize("media_type", DUMPS)
@pytest.mark.parametrize(("model", "value", "why"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_values(
    target: ServerProcess,
    conditions: Conditions,
    media_type: str,
    model: str,
    value: Any,
    why: str,
) -> None:
    body = DUMPS[media_type](value)
    with conditions.unharmed(), Wire(target.port) as wire:

        def send() -> None:
            reply = infer(wire, model, media_type, body)
            assert reply.headers["content-type"] == media_type
            said = json.dumps(LOADS[media_type](reply.body)).encode()
            reply = RawReply(reply.status, {**reply.headers, "content-type": JSON}, said)
            status = 404 if model == "nobody" else 400
            assert why in assert_users_error(reply, status)["error"]

        send()
        assert wire.ask(LIVE).status == 200
        conditions.memory_settles(send)


WRONG_ARRAYS = {
    "complex": ("echo_fp32", np.zeros(3, np.complex64)),
    "times": ("echo_int64", np.zeros(3, "M8[s]")),
    "texts for numbers": ("echo_fp32", np.array(["a", "b"])),
    "numbers for texts": ("echo_bytes", np.zeros(3, "f4")),
    "floats for integers": ("echo_int32", np.zeros(3, "f4")),
    "300 for UINT8": ("echo_uint8", np.array([300])),
    "1e300 for FP32": ("echo_fp32", np.array([1e300])),
    "2^64-1 for INT64": ("echo_int64", np.array([2**64 - 1], "u8")),
    "a structure": ("echo_fp32", np.zeros(3, [("a", "f4")])),
}


@pytest.mark.parametrize(("model", "array"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS.keys())
def test_wrong_arrays(
    target: ServerProcess, conditions: Conditions, model: str, array: np.ndarray
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for protocol in (2, 3, 4, 5):
            reply = infer(wire, model, PICKLE, pickle.dumps({"x": array}, protocol))
            assert reply.status == 400, reply
            assert wire.ask(LIVE).status == 200


def test_formats_that_are_not_spoken(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for media_type in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "application/x-python-serialize",
            "application/json, application/octet-stream",
            "a" * 3000,
            "",
        ):
            for way in (plain, chunked):
                reply = wire.ask(way("/infer?model=plain", b"{}", {"Content-Type": media_type}))
                assert "application/msgpack" in assert_error(reply, 415)["error"]
        assert_error(wire.ask(plain("/infer?model=plain", b"{}")), 415)


def test_a_client_cannot_choose_an_unsafe_reader(
    target: ServerProcess, conditions: Conditions, tmp_path: Path
) -> None:
    """Whatever it calls its body: nothing in it is run."""
    marker = tmp_path / "was here"
    body = pickle.dumps(Runs(os.system, f"touch '{marker}'"))
    with conditions.unharmed(), Wire(target.port) as wire:
        for media_type in (
            JSON,
            PICKLE,
            MSGPACK,
            "application/x-pickle",
            "application/numpy",
            "*/*",
        ):
            for path in (
                "/infer?model=plain",
                "/v2/models/plain/infer",
                "/v2/models/echo_bytes/infer",
            ):
                headers = {
                    "Content-Type": media_type,
                    "Accept": media_type,
                    "X-Pelton-Unsafe": "1",
                    "X-Pelton-Trusted": "true",
                }
                assert_error(wire.ask(plain(path, body, headers)), 400, 415)
    assert not marker.exists()


def test_expansion_at_the_users_endpoint(target: ServerProcess, conditions: Conditions) -> None:
    """A little that would become much, in each format."""
    zeros = np.broadcast_to(np.zeros(1, "f4"), (1 << 30,))
    nested = b"\x91" * 60 + b"\xdd" + struct.pack(">I", 20_000_000) + b"\xc0" * 20_000_000
    with conditions.unharmed(), Wire(target.port) as wire:
        for media_type, body in (
            (MSGPACK, nested),
            (MSGPACK, b"\xdd" + struct.pack(">I", 2**26) + b"\x90" * (60 * MIB)),
            (JSON, b"[" + b"[]," * 5_000_000 + b"[]]"),
            (PICKLE, b"\x80\x04](" + b"]" * 300_000 + b"e."),
            (PICKLE, b"\x80\x04N" + b"2\x86" * 60 + b"."),
        ):
            reply = infer(wire, "echo_fp32", media_type, body)
            assert reply.status in (400, 413), (media_type, reply.status)
            assert wire.ask(LIVE).status == 200
    assert zeros.nbytes == 4 << 30


def test_a_model_that_fails_here_too(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for media_type in DUMPS:
            reply = infer(wire, "raises", media_type, DUMPS[media_type]({"value": 1}))
            assert reply.status == 500
            said = LOADS[media_type](reply.body)
            assert said["code"] == "model_failed"
            assert "not for strangers" not in said["message"]
