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
import random
import re
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from broken_requests import GETS, corpus, mutated, request
from processes import Server, free_port

MODELS = Path(__file__).parents[1] / "examples" / "models"
ROUND = 500
"""Requests between two looks at the server's health."""

PATIENCE_S = 5.0
"""The server's own time-outs are a fifth of it."""

STATUSES = {100, 200, 206, 304, 400, 403, 404, 405, 408, 413, 414, 415, 416, 431, 500, 503}
ALLOWED_GROWTH_BYTES = 96 * 2**20
"""What the C library's arenas may still grow by once they have seen a third of the requests."""


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


# -- how it is sent, and what comes back ---------------------------------------------------


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
        except OSError:
            pass  # it has closed with our bytes unread, as it may; perhaps before our `shutdown`
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
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        body, data = data[:size], data[size:]
        if len(body) < size:
            break  # the mutated request was a HEAD, or the connection was reset
        if status >= 400 and b"application/json" in head:
            said = json.loads(_unpacked(head, body))
            if not {"error", "code", "request_id"} <= set(said) or said["code"] == "internal":
                raise ValueError(f"the error {said}")
    return found


def _unpacked(head: bytes, body: bytes) -> bytes:
    if b"content-encoding: gzip" in head:
        return gzip.decompress(body)
    return zlib.decompress(body) if b"content-encoding: deflate" in head else body


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


# -- the run --------------------------------------------------------------------------------


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
        left_s = stop_s - time.monotonic()
        early = 3 * sent < options.requests if options.requests else left_s > 40 * options.minutes
        if early or not settled_bytes:
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
    command = [
        sys.executable,
        "-m",
        "pelton",
        "serve",
        MODELS,
        "--port",
        port,
        "--max-connections=64",
        "--allowed-hosts=a",
    ]
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
