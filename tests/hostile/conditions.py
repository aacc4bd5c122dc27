"""What has to be true again after every attack: post-condition P.

    conditions = Conditions(server)
    with conditions.unharmed():
        ...                     # the attack

* live answers 200;
* reference inferences, sent over one connection that was open all the while, are bit-identical;
* connections, file descriptors and threads are back where they were;
* memory does not grow when the attack is repeated (`memory_settles`).

`assert_error` holds the form of every refusal: `{"error", "code", "request_id"}` and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator

import numpy as np

from oip_messages import binary_request, binary_tensor, json_body, json_request, tensor
from pelton.errors import Code
from raw_http import RawReply, Wire, chunked, get, plain
from support_server import ServerProcess, until

MIB = 1024 * 1024

CODES = {
    400: {Code.INVALID_INPUT, Code.MALFORMED_REQUEST},
    404: {Code.NOT_FOUND},
    405: {Code.METHOD_NOT_ALLOWED},
    408: {Code.RECEIVE_TIMEOUT},
    413: {Code.TOO_LARGE},
    414: {Code.URI_TOO_LONG},
    415: {Code.UNSUPPORTED_MEDIA},
    431: {Code.HEAD_TOO_LARGE},
    500: {Code.MODEL_FAILED},
    503: {Code.UNAVAILABLE},
    504: {Code.DEADLINE_EXCEEDED},
}
"""Status -> the codes that may come with it."""

LONGEST_MESSAGE = 1000
"""Characters; a message quotes a stranger only in bounded length."""

_FORBIDDEN = re.compile(
    r"Traceback|File \"|/site-packages|/src/pelton|pelton\.\w+\.\w|/tmp/|\.py\b"
)

_ROW = np.arange(64, dtype="<f4").reshape(1, 64)
_OIP = json_body(tensor("x", "FP32", [1, 64], _ROW.ravel().tolist()))

REFERENCES = (
    get("/v2"),
    binary_request(
        "/v2/models/matmul/infer",
        {
            "inputs": [binary_tensor("x", "FP32", [1, 64], 256)],
            "parameters": {"binary_data_output": True},
        },
        _ROW.tobytes(),
    ),
    json_request("/v2/models/matmul/infer", _OIP),
    chunked("/v2/models/matmul/infer", _OIP, {"Content-Type": "application/json"}, 100),
    plain(
        "/infer?model=matmul",
        b'{"x": [' + str(_ROW[0].tolist()).encode() + b"]}",
        {"Content-Type": "application/json"},
    ),
)
"""Over both ways into the server and in every framing, on one connection."""


def assert_error(reply: RawReply, *statuses: int) -> dict[str, str]:
    """Check that a refusal has one of these statuses and the one form of every error.

    Returns:
        The body.
    """
    assert reply.status in statuses, f"{reply.status}: {reply.body!r:.300}"
    assert reply.headers["content-type"] == "application/json"
    said = reply.json()
    assert list(said) == ["error", "code", "request_id"]
    assert said["code"] in CODES[reply.status], said
    assert said["error"], "a refusal says why"
    assert len(said["error"]) <= LONGEST_MESSAGE
    assert not _FORBIDDEN.search(said["error"]), said["error"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", said["request_id"])
    return said


def assert_users_error(reply: RawReply, *statuses: int) -> dict[str, str]:
    """Check a refusal of `/infer` whose format was understood: the users' two fields come first.

    Returns:
        The body.
    """
    said = reply.json()
    assert list(said)[:2] == ["status", "message"]
    assert (said.pop("status"), said.pop("message")) == ("error", said["error"])
    assert_error(RawReply(reply.status, reply.headers, json.dumps(said).encode()), *statuses)
    return said


class Conditions:
    """Post-condition P of one server, which has to serve the model `matmul`."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.neighbour = Wire(server.port)
        self._answers = self._references()
        with Wire(server.port) as wire:
            assert wire.ask(get("/v2/health/live")).status == 200
        until(lambda: server.connections() == 1)
        self._files = server.open_files()
        # The pools start their threads when they are first needed, and keep them.
        self._most_threads = server.threads() + 3 * (os.cpu_count() or 1) + 32

    def close(self) -> None:
        """Hang up the neighbour."""
        self.neighbour.close()

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """Run an attack, and check everything but memory."""
        yield
        self.check()

    def check(self) -> None:
        """Check everything but memory, now."""
        assert self.server.process.poll() is None, self.server.log()
        with Wire(self.server.port) as wire:
            live = wire.ask(get("/v2/health/live"))
        assert (live.status, live.body) == (200, b'{"live":true}')
        assert self._references() == self._answers
        until(lambda: self.server.connections() <= 1)
        until(lambda: self.server.open_files() <= self._files)
        assert self.server.threads() <= self._most_threads

    def memory_settles(
        self,
        attack: Callable[[], object],
        repeats: int = 100,
        allowed_bytes: int = MIB,
        rounds: int = 10,
    ) -> None:
        """Repeat an attack until memory grows by less than is allowed; a leak never lets it.

        Work in threads makes the C library's arenas grow and shrink by tens of megabytes before
        they have found their size, so one quiet round is what tells.

        Args:
            attack: what is repeated.
            repeats: per round.
            allowed_bytes: growth of the resident memory in one round.
            rounds: how many to try.
        """
        grown = []
        before = self.server.rss_bytes()
        for _ in range(rounds):
            for _ in range(repeats):
                attack()
            after = self.server.rss_bytes()
            grown.append(after - before)
            if after - before < allowed_bytes:
                return
            before = after
        raise AssertionError(f"memory grew by {grown} bytes per {repeats} repeats")

    def _references(self) -> list[tuple[int, bytes]]:
        answers = []
        for request in REFERENCES:
            reply = self.neighbour.ask(request)
            assert reply.status == 200, reply
            answers.append((reply.status, reply.body))
        return answers
