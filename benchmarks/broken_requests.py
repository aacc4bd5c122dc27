"""Valid requests for every address of a server of `examples/models`, and how to break them."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import re
import zlib
from collections.abc import Callable

import msgpack
import numpy as np

GETS = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/digits",
    "/v2/models/digits/ready",
    "/v2/models/digits/config",
    "/v2/models/digits/versions/1",
    "/health",
    "/stats",
    "/stats?model=digits",
    "/model/info?model=policy",
    "/docs",
    "/openapi.json",
    "/static-offline-docs/swagger-ui.css",
    "/nowhere",
)

FRAGMENTS = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Accept-Encoding: gzip\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Type: application/octet-stream\r\n",
    b"Content-Type: application/msgpack\r\n",
    b"Inference-Header-Content-Length: 0\r\n",
    b"Inference-Header-Content-Length: 77\r\n",
    b"Host: a\r\n",
    b"X-Pelton-Model: policy\r\n",
    b"Range: bytes=0-1,5-\r\n",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"ffffffffffffffff\r\n",
    b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
    b"%00",
    b"%2e%2e%2f",
    b"[" * 100,
    b'{"a":',
    b"NaN",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b'"binary_data_size":8',
    b'"shape":[0]',
    b"\xff\xff\xff\xff",
    b"\x80\x05",
    b"\xdd\xff\xff\xff\xff",
    b"PELTON5B",
)
"""Pieces of requests, harmless and hostile, that mutations put in."""


def request(path: str, body: bytes, *headers: str) -> bytes:
    """Write a request with a length."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(path: str, body: bytes, *headers: str) -> bytes:
    """Write a request in chunks."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", *headers, "Transfer-Encoding: chunked"]
    parts = [body[at : at + 50] for at in range(0, len(body), 50)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return "\r\n".join([*lines, "", ""]).encode() + chunks + b"0\r\n\r\n"


def corpus() -> list[bytes]:
    """Return valid requests for every address, in every framing and format."""
    image = np.full((1, 8, 8), 3, np.uint8)
    entry = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8]}
    as_json = json.dumps({"inputs": [entry | {"data": image.ravel().tolist()}]}).encode()
    header = json.dumps(
        {
            "id": "a",
            "inputs": [entry | {"parameters": {"binary_data_size": 64}}],
            "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
            "parameters": {"binary_data_output": True, "priority": 1},
        }
    ).encode()
    binary = header + image.tobytes()
    length = f"Inference-Header-Content-Length: {len(header)}"
    observation = {
        "instruction": "go",
        "state": np.ones(6, np.float32),
        "image": np.ones((4, 4, 3), np.uint8),
    }
    packed = msgpack.packb(
        {"image": {b"nd": True, b"type": "|u1", b"shape": [1, 8, 8], b"data": image.tobytes()}}
    )
    infer, digits, policy = "/v2/models/digits/infer", "/infer?model=digits", "/infer?model=policy"
    as_pickle, as_msgpack, plain_json = (
        f"Content-Type: application/{kind}" for kind in ("octet-stream", "msgpack", "json")
    )
    return [
        *(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in GETS),
        request(infer, as_json),
        request("/v2/models/digits/versions/1/infer", binary, length),
        request(infer, image.tobytes(), "Inference-Header-Content-Length: 0"),
        request(infer, gzip.compress(as_json), "Content-Encoding: gzip"),
        request(infer, zlib.compress(binary), length, "Content-Encoding: deflate"),
        request(infer, as_json, "Accept-Encoding: gzip"),
        request(infer, as_json, "Expect: 100-continue"),
        chunked(infer, as_json),
        chunked(infer, binary, length),
        *(request(policy, pickle.dumps(observation, each), as_pickle) for each in (2, 3, 4, 5)),
        chunked(policy, pickle.dumps(observation, 5), as_pickle),
        request(digits, packed, as_msgpack),
        request(digits, json.dumps({"image": image.tolist()}).encode(), plain_json),
        request("/infer", b"[1]", plain_json, "X-Pelton-Model: digits"),
        request("/nowhere", b"12345"),
    ]


def mutated(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """Return a request that is broken in one to five places."""
    head, mark, body = data.partition(b"\r\n\r\n")
    if body and dice.random() < 0.5:
        body = _broken(body, others, dice)
        length = b"Content-Length: %d" % len(body)
        return re.sub(rb"Content-Length: [0-9]+", length, head, count=1) + mark + body
    return _broken(data, others, dice)


def _broken(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    ways: list[Callable[[bytearray, int], None]] = [
        lambda text, at: text.__setitem__(at, text[at] ^ (1 << dice.randrange(8))),
        lambda text, at: text.__setitem__(at, dice.choice(b'\x00\x7f\x80\xff\r\n :0[{"')),
        lambda text, at: text.__setitem__(slice(at, at), dice.choice(FRAGMENTS)),
        lambda text, at: text.__delitem__(slice(at, at + dice.randrange(1, 20))),
        lambda text, at: text.__setitem__(slice(at, at), text[at : at + dice.randrange(1, 40)]),
        lambda text, at: text.__delitem__(slice(at, None)),
        lambda text, at: text.__setitem__(slice(at, None), _tail(dice.choice(others), dice)),
    ]
    text = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        if text:
            dice.choice(ways)(text, dice.randrange(len(text)))
    return bytes(text)


def _tail(data: bytes, dice: random.Random) -> bytes:
    return data[dice.randrange(len(data)) :]
