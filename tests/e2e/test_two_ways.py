"""One request, four ways in: the gate itself, or chunked or compressed through the control side.

Whatever the request: the same status, the same headers, the same bytes.
"""

from __future__ import annotations

import gzip
import json
import pickle
import re
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from oip_messages import (
    binary_body,
    binary_tensor,
    bytes_elements,
    json_body,
    tensor,
)
from raw_http import RawReply, Wire, chunked, plain
from support_server import ServerProcess

Case = tuple[str, bytes, dict[str, str]]
Way = Callable[[Case], bytes]

JSON = {"Content-Type": "application/json"}
PICKLE = {"Content-Type": "application/octet-stream"}
MSGPACK = {"Content-Type": "application/msgpack"}


def hot(case: Case) -> bytes:
    path, body, headers = case
    return plain(path, body, headers)


def in_chunks(size: int) -> Way:
    def way(case: Case) -> bytes:
        path, body, headers = case
        return chunked(path, body, headers, size)

    return way


def packed(coding: str, compress: Callable[[bytes], bytes], frame: Callable[..., bytes]) -> Way:
    def way(case: Case) -> bytes:
        path, body, headers = case
        return frame(path, compress(body), {**headers, "Content-Encoding": coding})

    return way


def with_identity(case: Case) -> bytes:
    path, body, headers = case
    return plain(path, body, {**headers, "Content-Encoding": "identity"})


SLOW: dict[str, Way] = {
    "one chunk": in_chunks(1 << 30),
    "chunks of 7 bytes": in_chunks(7),
    "gzip": packed("gzip", gzip.compress, plain),
    "deflate": packed("deflate", zlib.compress, plain),
    "gzip in chunks": packed("gzip", gzip.compress, chunked),
    "identity": with_identity,
}


def oip(model: str, body: bytes, headers: dict[str, str] | None = None, version: str = "") -> Case:
    path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
    return path, body, headers or {}


def binary(model: str, header: dict[str, Any], *parts: bytes) -> Case:
    return oip(model, *binary_body(header, *parts))


def users(value: Any, headers: dict[str, str], query: str = "?model=plain") -> Case:
    dump = {
        "application/json": lambda value: json.dumps(value).encode(),
        "application/octet-stream": lambda value: pickle.dumps(value, 5),
        "application/msgpack": lambda value: msgpack.packb(value, default=msgpack_numpy.encode),
    }[headers["Content-Type"]]
    return f"/infer{query}", bytes(dump(value)), headers


ROW = np.arange(64, dtype="<f4").reshape(1, 64)
IMAGE = np.random.default_rng(5).integers(0, 255, (120, 160, 3), np.uint8)
OBSERVATION = {
    "instruction": "pick up the red cube",
    "state": np.linspace(-1, 1, 6, dtype="f4"),
    "image": IMAGE,
}
X = tensor("x", "FP32", [2], [1, 2])
BIG = np.random.default_rng(6).standard_normal(50_000).astype("f4")

CASES: dict[str, Case] = {
    # Open Inference Protocol, good
    "JSON": oip("echo_fp32", json_body(X)),
    "JSON with everything": oip(
        "pair",
        json_body(
            tensor("x1", "FP32", [2], [1, 2]),
            tensor("x0", "FP32", [1], [1]),
            id="grüß dich",
            parameters={"priority": 1, "own": "a"},
            outputs=[{"name": "y1"}, {"name": "y0", "parameters": {"binary_data": True}}],
        ),
    ),
    "JSON, long": oip("echo_fp32", json_body(tensor("x", "FP32", [50_000], BIG.tolist()))),
    "JSON texts": oip("echo_bytes", json_body(tensor("x", "BYTES", [2], ["a", "你好"]))),
    "JSON, no elements": oip("rows", json_body(tensor("x", "FP32", [0, 3], []))),
    "JSON, floats with names": oip("echo_fp32", json_body(tensor("x", "FP32", [1], ["NaN"]))),
    "binary": binary(
        "matmul", {"inputs": [binary_tensor("x", "FP32", [1, 64], 256)]}, ROW.tobytes()
    ),
    "binary, big": binary(
        "echo_fp32",
        {
            "inputs": [binary_tensor("x", "FP32", [50_000], 200_000)],
            "parameters": {"binary_data_output": True},
        },
        BIG.tobytes(),
    ),
    "binary, not aligned": binary(
        "echo_fp64",
        {
            "inputs": [binary_tensor("x", "FP64", [1], 8)],
            "parameters": {"binary_data_output": True, "pad": "a"},
        },
        bytes(8),
    ),
    "binary and JSON": binary(
        "pair",
        {
            "inputs": [tensor("x0", "FP32", [1], [7]), binary_tensor("x1", "FP32", [1], 4)],
            "outputs": [{"name": "y0", "parameters": {"binary_data": True}}, {"name": "y1"}],
        },
        np.float32(8).tobytes(),
    ),
    "binary texts": binary(
        "plain",
        {
            "inputs": [binary_tensor("value", "BYTES", [2], 9)],
            "parameters": {"binary_data_output": True},
        },
        bytes_elements(b"\xff", b""),
    ),
    "BF16": binary(
        "echo_bf16",
        {
            "inputs": [binary_tensor("x", "BF16", [2], 4)],
            "parameters": {"binary_data_output": True},
        },
        b"\x80\x3f\x00\x40",
    ),
    "raw": oip("matmul", ROW.tobytes(), {"Inference-Header-Content-Length": "0"}),
    "classification": oip(
        "digits",
        json_body(
            tensor("image", "UINT8", [1, 8, 8], [3] * 64),
            outputs=[{"name": "probabilities", "parameters": {"classification": 2}}],
        ),
    ),
    "a version": oip("echo_fp32", json_body(X), version="1"),
    "a model by an escaped name": ("/v2/models/%65cho_fp32/infer", json_body(X), {}),
    "a query that nobody asked for": ("/v2/models/echo_fp32/infer?a=b&model=c", json_body(X), {}),
    "asked for compressed": oip("echo_fp32", json_body(X), {"Accept-Encoding": "gzip"}),
    "asked for either": oip("echo_fp32", json_body(X), {"Accept-Encoding": "gzip, deflate"}),
    "the last on its connection": oip("echo_fp32", json_body(X), {"Connection": "close"}),
    # Open Inference Protocol, bad
    "no model": oip("nobody", json_body(X)),
    "no version": oip("echo_fp32", json_body(X), version="2"),
    "no such path": ("/v2/models/echo_fp32/inference", json_body(X), {}),
    "no JSON": oip("echo_fp32", b"not JSON"),
    "no body": oip("echo_fp32", b""),
    "deep": oip("echo_fp32", b"[" * 3000),
    "a key twice": oip("echo_fp32", b'{"inputs":[],"inputs":[]}'),
    "no inputs": oip("echo_fp32", b"{}"),
    "no such input": oip("echo_fp32", json_body(tensor("z", "FP32", [1], [1]))),
    "no such output": oip("echo_fp32", json_body(X, outputs=[{"name": "z"}])),
    "another datatype": oip("echo_int8", json_body(X)),
    "another shape": oip("rows", json_body(X)),
    "a lying shape": oip("echo_fp32", json_body(tensor("x", "FP32", [2**40], [1]))),
    "binary, too short": binary(
        "echo_fp32", {"inputs": [binary_tensor("x", "FP32", [2], 8)]}, b"1"
    ),
    "binary, too long": binary(
        "echo_fp32", {"inputs": [binary_tensor("x", "FP32", [1], 4)]}, b"12345"
    ),
    "a lying header length": oip(
        "echo_fp32", json_body(X), {"Inference-Header-Content-Length": "9999"}
    ),
    "a header length of letters": oip(
        "echo_fp32", json_body(X), {"Inference-Header-Content-Length": "ten"}
    ),
    "blanks around the header length": oip(
        "echo_fp32",
        *(lambda body: (body, {"Inference-Header-Content-Length": f" {len(body)}\t "}))(
            json_body(X)
        ),
    ),
    "a lying raw request": oip("matmul", bytes(7), {"Inference-Header-Content-Length": "0"}),
    "a model that raises": oip("raises", json_body(tensor("value", "FP32", [1], [1]))),
    "too large an expansion": oip(
        "echo_bytes",
        *binary_body({"inputs": [binary_tensor("x", "BYTES", [1 << 21], 1 << 23)]}, bytes(1 << 23)),
    ),
    "a refusal, asked for compressed": oip("nobody", b"", {"Accept-Encoding": "deflate"}),
    # the users' endpoint, good
    "users' JSON": users({"value": [1, 2.5, None, "a"]}, JSON),
    "users' JSON, a bare array": users([1, 2, 3], JSON, "?model=echo_fp32"),
    "users' pickle": users({"value": IMAGE}, PICKLE),
    "users' pickle of protocol 2": ("/infer?model=plain", pickle.dumps({"value": BIG}, 2), PICKLE),
    "users' msgpack": users({"value": IMAGE}, MSGPACK),
    "users' policy": users(OBSERVATION, PICKLE, "?model=policy"),
    "users' policy in msgpack": users(OBSERVATION, MSGPACK, "?model=policy"),
    "the model in a header": ("/infer", b'{"value":1}', {**JSON, "X-Pelton-Model": "plain"}),
    "the model in both": (
        "/infer?model=plain",
        b'{"value":1}',
        {**JSON, "X-Pelton-Model": "nobody"},
    ),
    "the model escaped": ("/infer?model=%70lain", b'{"value":1}', JSON),
    "the model twice": ("/infer?model=plain&model=nobody", b'{"value":1}', JSON),
    "a media type with a parameter": (
        "/infer?model=plain",
        b'{"value":1}',
        {"Content-Type": "Application/JSON; charset=utf-8"},
    ),
    # the users' endpoint, bad
    "users: no model named": users({"value": 1}, JSON, ""),
    "users: an empty name": users({"value": 1}, JSON, "?model="),
    "users: no such model": users({"value": 1}, PICKLE, "?model=nobody"),
    "users: no such model, msgpack": users({"value": 1}, MSGPACK, "?model=nobody"),
    "users: no media type": ("/infer?model=plain", b"{}", {}),
    "users: another media type": ("/infer?model=plain", b"{}", {"Content-Type": "text/html"}),
    "users: no JSON": ("/infer?model=plain", b"{", JSON),
    "users: no pickle": ("/infer?model=plain", b"\x80\x04cos\nsystem\n.", PICKLE),
    "users: no msgpack": ("/infer?model=plain", b"\xc1", MSGPACK),
    "users: a wrong dict": users({"nothing": 1}, PICKLE, "?model=echo_fp32"),
    "users: a wrong value": users({"x": ["a"]}, MSGPACK, "?model=echo_fp32"),
    "users: no dict": users([1], JSON),
    "users: a model that raises": users({"value": 1}, PICKLE, "?model=raises"),
    "users: a model that fails on its input": users({"other": 1}, JSON),
    "users: a slash too many": ("/infer/", b"{}", JSON),
}

OWN_ID = ("X-Request-Id", "the-same")


def told(reply: RawReply) -> tuple[int, dict[str, str], bytes]:
    """Return what has to be the same; the date is not ours."""
    return reply.status, {k: v for k, v in reply.headers.items() if k != "date"}, reply.body


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_same_answer_to_the_same_request(served: ServerProcess, case: Case) -> None:
    path, body, headers = case
    case = path, body, {**headers, OWN_ID[0]: OWN_ID[1]}
    with Wire(served.port) as wire:
        wanted = told(wire.ask(hot(case)))
    for name, way in SLOW.items():
        if name == "chunks of 7 bytes" and len(body) > 400_000:
            continue  # would be more chunks than are allowed
        with Wire(served.port) as wire:
            assert told(wire.ask(way(case))) == wanted, name


GIVEN = {"Content-Type": "application/json", "X-Pelton-Model": "plain", OWN_ID[0]: OWN_ID[1]}

TWICE = [
    [("Content-Type", "text/plain")],
    [("Content-Type", "application/json")],
    [("X-Pelton-Model", "echo_int8")],
    [("Inference-Header-Content-Length", "1"), ("Inference-Header-Content-Length", "85")],
    [("Accept-Encoding", "gzip"), ("Accept-Encoding", "deflate")],
    [("X-Request-Id", "another")],
    [("Connection", "keep-alive"), ("Connection", "close")],
]


@pytest.mark.parametrize("more", TWICE, ids=[more[0][0] for more in TWICE])
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize(
    ("path", "body"), [("/infer", b'{"value": 1}'), ("/v2/models/echo_fp32/infer", json_body(X))]
)
def test_a_header_said_twice_means_the_same_everywhere(
    served: ServerProcess, more: list[tuple[str, str]], first: bool, path: str, body: bytes
) -> None:
    headers = [*more, *GIVEN.items()] if first else [*GIVEN.items(), *more]
    answers = []
    for frame in (plain, chunked):
        with Wire(served.port) as wire:
            status, kept, said = told(wire.ask(frame(path, body, headers)))
        # Two ids are none, so the server gives its own, each time another.
        said = re.sub(rb'"request_id":"[^"]*"', b"", said)
        answers.append((status, {k: v for k, v in kept.items() if k != "content-length"}, said))
    assert answers[0] == answers[1]
