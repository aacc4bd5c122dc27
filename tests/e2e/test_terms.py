"""Deadlines and timing as a client meets them, over both ways into the server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from oip_messages import json_body, tensor
from pelton.wire.timing import read_timing, read_timing_header
from raw_http import Wire, chunked, plain
from support_server import ServerProcess

JSON = {"Content-Type": "application/json"}
X = tensor("x", "FP32", [2], [1, 2])

both_ways = pytest.mark.parametrize("frame", [plain, chunked], ids=["plain", "chunked"])
both_endpoints = pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/echo_fp32/infer", json_body(X)),
        ("/infer?model=echo_fp32", b'{"x": [1, 2]}'),
    ],
    ids=["oip", "users"],
)


@both_ways
@both_endpoints
def test_all_five_parts_are_told_and_fit_into_what_the_client_measures(
    served: ServerProcess, frame: Callable[..., bytes], path: str, body: bytes
) -> None:
    with Wire(served.port) as wire:
        for _ in range(20):
            started_s = time.monotonic()
            reply = wire.ask(frame(path, body, JSON | {"X-Pelton-Timing": "1"}))
            took_s = time.monotonic() - started_s
            assert reply.status == 200
            timing = read_timing_header(reply.headers["x-pelton-timing"])
            assert timing is not None
            parts = (timing.receive_s, timing.queue_s, timing.batch_wait_s, timing.compute_s)
            # Each part is rounded to a microsecond.
            assert 0 < sum(parts) + timing.encode_s <= took_s + 5e-6
        assert "x-pelton-timing" not in wire.ask(frame(path, body, JSON)).headers


@both_ways
def test_the_parameters_tell_the_same_parts(
    served: ServerProcess, frame: Callable[..., bytes]
) -> None:
    with Wire(served.port) as wire:
        started_s = time.monotonic()
        body = json_body(X, parameters={"timing": True})
        reply = wire.ask(frame("/v2/models/echo_fp32/infer", body, JSON))
        took_s = time.monotonic() - started_s
    told = reply.json()["parameters"]
    assert list(told) == ["receive_us", "queue_us", "batch_wait_us", "compute_us", "encode_us"]
    assert read_timing(told) is not None
    assert 0 < sum(told.values()) <= took_s * 1e6 + 5


@both_ways
@both_endpoints
def test_a_deadline_that_is_over_is_a_504(
    served: ServerProcess, frame: Callable[..., bytes], path: str, body: bytes
) -> None:
    with Wire(served.port) as wire:
        for timeout_ms, status in (("0.000001", 504), ("60000", 200), ("soon", 400), ("0", 400)):
            reply = wire.ask(frame(path, body, JSON | {"X-Request-Timeout-Ms": timeout_ms}))
            assert reply.status == status, reply.body
            if status != 200:
                code = {504: "deadline_exceeded", 400: "invalid_input"}[status]
                assert json.loads(reply.body)["code"] == code


def test_a_time_out_of_the_protocol_that_is_over_is_a_504(served: ServerProcess) -> None:
    with Wire(served.port) as wire:
        for timeout_us, status in ((1, 504), (60_000_000, 200), (0, 200)):
            body = json_body(X, parameters={"timeout": timeout_us})
            assert wire.ask(plain("/v2/models/echo_fp32/infer", body, JSON)).status == status
