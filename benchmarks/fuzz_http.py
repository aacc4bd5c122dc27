"""Sends broken requests to a running server and watches what it does with them.

    python benchmarks/fuzz_http.py --requests 20000 --seed 1
    python benchmarks/fuzz_http.py --minutes 60

Valid requests for every address, in every framing and format, are mutated: as raw bytes, or in
the body alone with the length put right, which gets deeper. They arrive in one piece or in
several, alone or with others behind them, from clients that stay and from clients that leave.

The server must answer or close, in good time, with well-formed responses and statuses of the
contract; it must stay alive, answer a reference inference with the same bytes as before, log no
traceback, and end up with no connection and no more memory than it had after the first third.
Everything depends on the seed alone. Exits with 1 if anything was found, and prints the bytes.

The server is started by this script on the loopback interface, and ended by it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import random
import re
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import numpy as np
import psutil
from processes import Server, free_port

MODELS = Path(__file__).parents[1] / "examples" / "models"
ROUND = 500
"""Requests between two looks at the server's health."""

PATIENCE_S = 5.0
"""The server's own time-outs are a fifth of it."""

STATUSES = {100, 200, 206, 304, 400, 404, 405, 408, 413, 414, 415, 416, 431, 500, 503}
ALLOWED_GROWTH_BYTES = 96 * 2**20
"""What the C library's arenas may still grow by once they have seen a third of the requests."""

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


@dataclass
class Found:
    """What a run came to.

    Attributes:
        answered: status -> responses.
        closed: connections that were closed without a response.
        faults: what must not have happened, with the bytes that led to it.
    """

    answered: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    faults: list[str] = field(default_factory=list)


# -- what is sent ------------------------------------------------------------------------------------


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
        lambda text, at: text.__setitem__(at, dice.choice(b"\x00\x7f\x80\xff\r\n :0[{\"")),
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


# -- how it is sent, and what comes back -------------------------------------------------------------


def exchange(port: int, data: bytes, dice: random.Random) -> tuple[bytes, bool]:
    """Send bytes in some way.

    Returns:
        What came back, and whether the server itself ended the connection in time.
    """
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 2, 5))))
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                connection.sendall(data[start:end])
            if dice.random() < 0.05:
                linger = struct.pack("ii", 1, 0)  # leave with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return b"", True
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                received += part
        except TimeoutError:
            return bytes(received), False
        except ConnectionError:
            pass  # it has closed with our bytes unread, as it may
    return bytes(received), True


def statuses(data: bytes) -> list[int]:
    """Read the statuses of a row of responses.

    Raises:
        ValueError: these are no well-formed responses, or an error has not the form of errors.
    """
    found = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        told = re.match(rb"HTTP/1\.1 (\d{3}) [A-Za-z' -]+\r?", head)
        if not mark or told is None:
            raise ValueError(f"no head of a response: {head[:100]!r}")
        status = int(told[1])
        found.append(status)
        if status not in STATUSES:
            raise ValueError(f"status {status}")
        if status == 100:
            continue
        length = re.search(rb"content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        body, data = data[:size], data[size:]
        if len(body) < size:
            break  # the mutated request was a HEAD, or the connection was reset
        if status >= 400 and b"application/json" in head:
            said = json.loads(body)
            if not {"error", "code", "request_id"} <= set(said) or said["code"] == "internal":
                raise ValueError(f"the error {said}")
    return found


def ask(port: int, data: bytes) -> bytes:
    """Send one good request and return the body of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        raise ValueError(f"a good request was answered with {received[:300]!r}")
    return body


# -- the run -----------------------------------------------------------------------------------------


def fuzz(port: int, process: psutil.Process, options: argparse.Namespace) -> Found:
    """Send until there have been enough, or the time is over."""
    found, dice, seeds = Found(), random.Random(options.seed), corpus()
    reference = request("/v2/models/digits/infer", seeds[len(GETS)].partition(b"\r\n\r\n")[2])
    wanted = ask(port, reference)
    stop_s = time.monotonic() + 60 * options.minutes
    settled_bytes = sent = 0
    while sent < options.requests if options.requests else time.monotonic() < stop_s:
        for _ in range(ROUND):
            data = mutated(dice.choice(seeds), seeds, dice)
            data += b"".join(dice.choice(seeds) for _ in range(dice.choice((0, 0, 0, 1, 3))))
            _try(port, data, dice, found)
            sent += 1
        if ask(port, reference) != wanted:
            found.faults.append(f"the reference inference differs after {sent} requests")
        done = sent / options.requests if options.requests else 1 - (
            stop_s - time.monotonic()
        ) / (60 * options.minutes)
        if done < 1 / 3 or not settled_bytes:
            settled_bytes = process.memory_info().rss
        if len(found.faults) > 20:
            break
    _check_end(process, settled_bytes, found)
    return found


def _try(port: int, data: bytes, dice: random.Random, found: Found) -> None:
    answer, ended = exchange(port, data, dice)
    if not ended:
        found.faults.append(f"neither answered nor closed: {data!r}")
    try:
        answered = statuses(answer)
    except ValueError as error:
        found.faults.append(f"{error} for {data!r}")
        return
    found.answered.update(answered)
    found.closed += not answered


def _check_end(process: psutil.Process, settled_bytes: int, found: Found) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while _connections(process) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if _connections(process):
        found.faults.append(f"{_connections(process)} connections are left")
    grown = process.memory_info().rss - settled_bytes
    if grown > ALLOWED_GROWTH_BYTES:
        found.faults.append(f"memory grew by {grown} bytes after the first third")


def _connections(process: psutil.Process) -> int:
    every = process.net_connections("tcp")
    return sum(each.status != psutil.CONN_LISTEN for each in every)


def main() -> int:
    """Start a server, send to it, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=0, help="how many; else --minutes decide")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    port = free_port()
    patience = f"{PATIENCE_S / 5:g}s"
    command = [sys.executable, "-m", "pelton", "serve", MODELS, "--port", port, "--max-connections=64"]
    command += [f"--{name}-timeout-s={patience}" for name in ("head", "body", "send", "idle")]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "serve.log"
        with Server([str(part) for part in command], log) as server:
            server.wait_for_ready(port, "/v2/health/ready")
            children = psutil.Process().children()
            found = fuzz(port, children[0], options)
            server.check_alive()
        for record in re.split(r"^(?=\d\d:\d\d:\d\d )", log.read_text(), flags=re.MULTILINE):
            if "Traceback" in record and "model 'policy' raised" not in record:
                found.faults.append(record)
    answered = ", ".join(f"{count} x {status}" for status, count in sorted(found.answered.items()))
    print(f"seed {options.seed}: {answered}; {found.closed} closed without an answer")
    for fault in found.faults:
        print(f"FOUND: {fault[:5000]}")
    print(f"{len(found.faults)} faults")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
