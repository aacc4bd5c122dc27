"""Clients that are slow, silent, or gone: each is cut off, and nothing of it stays."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from hostile.conditions import assert_error
from hostile.echo_requests import ones
from raw_http import Wire, as_chunks, chunked, get, head_bytes, plain
from support_server import ServerProcess, WaitingModel, until

INFER = "/v2/models/echo_fp32/infer"
LIVE = get("/v2/health/live")
TICK_S = 0.02


def drip(wire: Wire, data: bytes, at_most_s: float = 10.0) -> None:
    """Send byte after byte until the server has something to say, or hangs up."""
    stop_s = time.monotonic() + at_most_s
    for byte in data:
        readable, _, _ = select.select([wire.socket], [], [], TICK_S)
        if readable:
            return
        assert time.monotonic() < stop_s, "the server still listens"
        wire.send_while_taken(bytes([byte]))
    raise AssertionError("the server listened to the end")


CHUNKED = head_bytes("POST", INFER, {"Transfer-Encoding": "chunked"})
LENGTH = {"Content-Length": "500"}
MUCH = b" " * 499

T = TypeVar("T")


def side_by_side(attack: Callable[[T], None], cases: Iterable[T]) -> None:
    """Run attacks at the same time, since each waits for a time-out; the first failure counts."""
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(attack, cases))


SLOW = {
    "head": (b"", get("/v2", {"X-Note": "a" * 500})),
    "head of an inference": (b"", head_bytes("POST", INFER, {"X-Note": "a" * 500})),
    "body": (head_bytes("POST", INFER, LENGTH), MUCH),
    "body of /infer": (head_bytes("POST", "/infer?model=rows", LENGTH), MUCH),
    "compressed body": (head_bytes("POST", INFER, {**LENGTH, "Content-Encoding": "gzip"}), MUCH),
    "chunks": (CHUNKED, b"1\r\n \r\n" * 100),
    "one chunk": (CHUNKED + b"fff\r\n", MUCH),
    "chunk extension": (CHUNKED + b"1;", b"a" * 500),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Note: " + b"a" * 500),
}
"""What is sent at once, and what drips."""


@pytest.mark.parametrize("first", [b"", LIVE], ids=["fresh", "kept"])
@pytest.mark.usefixtures("impatient_conditions")
def test_a_byte_at_a_time(impatient: ServerProcess, first: bytes) -> None:
    def attack(name: str) -> None:
        with Wire(impatient.port) as wire:
            if first:
                assert wire.ask(first).status == 200
            at_once, dripping = SLOW[name]
            wire.send(at_once)
            drip(wire, dripping)
            replies = wire.all_replies()
            assert len(replies) == 1, name
            part = "head" if name.startswith("head") else "body"
            said = assert_error(replies[0], 408)["error"]
            assert f"the request's {part} took too long" in said, name

    side_by_side(attack, SLOW)


@pytest.mark.usefixtures("impatient_conditions")
def test_who_says_nothing_is_closed_without_a_word(impatient: ServerProcess) -> None:
    def attack(start: bytes) -> None:
        with Wire(impatient.port) as wire:
            wire.send(start)
            if start == LIVE:
                assert wire.reply().status == 200
            assert wire.rest() == b""

    side_by_side(attack, [b"", b"\r", b"\r\n", b"\r\n\r\n\r\n", LIVE])


@pytest.mark.usefixtures("impatient_conditions")
def test_empty_lines_do_not_keep_a_connection(impatient: ServerProcess) -> None:
    with Wire(impatient.port) as wire:
        drip(wire, b"\r\n" * 1000)
        assert wire.rest() == b""


@pytest.mark.usefixtures("impatient_conditions")
def test_a_body_that_stops(impatient: ServerProcess) -> None:
    def attack(case: tuple[str, int]) -> None:
        way, size = case
        framing = {
            "plain": {"Content-Length": str(size + 1)},
            "control": {"Content-Length": str(size + 1), "Content-Encoding": "gzip"},
            "chunked": {"Transfer-Encoding": "chunked"},
        }[way]
        body = as_chunks(b" " * size)[:-5] if way == "chunked" else b" " * size
        with Wire(impatient.port) as wire:
            assert_error(wire.ask(head_bytes("POST", INFER, framing) + body), 408)
            assert wire.rest() == b""

    ways, sizes = ("plain", "control", "chunked"), (1, 40_000, 5_000_000)
    side_by_side(attack, itertools.product(ways, sizes))


@pytest.mark.usefixtures("impatient_conditions")
def test_a_client_that_waits_for_100_continue_and_then_says_nothing(
    impatient: ServerProcess,
) -> None:
    for framing in ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}):
        with Wire(impatient.port) as wire:
            wire.send(head_bytes("POST", INFER, {**framing, "Expect": "100-continue"}))
            assert wire.head().status == 100
            assert_error(wire.reply(), 408)


# -- half-closed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["echo_fp32", "plain"], ids=["at once", "in a thread"])
@pytest.mark.parametrize("way", ["plain", "chunked", "GET"])
def test_a_client_that_says_it_is_done_gets_its_answer(
    target: ServerProcess, model: str, way: str
) -> None:
    """And the end of the connection, long before it would be closed for being idle."""
    body = b'{"value": 1}' if model == "plain" else b"[1]"
    path, headers = f"/infer?model={model}", {"Content-Type": "application/json"}
    request = {
        "plain": plain(path, body, headers),
        "chunked": chunked(path, body, headers),
        "GET": LIVE,
    }[way]
    with Wire(target.port) as wire:
        wire.send(request)
        wire.finish_sending()
        assert wire.reply().status == 200
        assert wire.rest() == b""


@pytest.mark.parametrize("way", ["head", "plain", "chunked", "gzip"])
def test_half_a_request_and_then_the_end(target: ServerProcess, way: str) -> None:
    """Nobody can still complete it, so it is not waited for."""
    body = b" " * 100
    request = {
        "head": head_bytes("POST", INFER)[:-2],
        "plain": plain(INFER, body)[:-50],
        "chunked": chunked(INFER, body)[:-50],
        "gzip": plain(INFER, body, {"Content-Encoding": "gzip"})[:-50],
    }[way]
    base = target.connections()
    with Wire(target.port) as wire:
        wire.send(request)
        wire.finish_sending()
        assert len(wire.all_replies()) <= 1
    until(lambda: target.connections() <= base)


# -- gone ----------------------------------------------------------------------------------------


def reset(wire: Wire) -> None:
    """Hang up without a goodbye."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


@pytest.mark.parametrize("hang_up", [Wire.close, reset])
@pytest.mark.parametrize("way", ["plain", "chunked", "gzip", "head"])
def test_a_client_that_leaves_in_the_middle_of_its_request(
    target: ServerProcess, way: str, hang_up: Callable[[Wire], None]
) -> None:
    body, headers = ones(100_000)
    request = {
        "plain": plain(INFER, body, headers),
        "chunked": chunked(INFER, body, headers),
        "gzip": plain(INFER, body, {**headers, "Content-Encoding": "gzip"}),
        "head": head_bytes("POST", INFER, {"X-Note": "a" * 3000}),
    }[way]
    base, log = target.connections(), len(target.log())
    for _ in range(20):
        wire = Wire(target.port)
        wire.send(request[: len(request) // 2])
        hang_up(wire)
    until(lambda: target.connections() <= base)
    assert target.log()[log:] == "", "a client that leaves is no event for the log"


@pytest.mark.parametrize("hang_up", [Wire.close, reset])
@pytest.mark.parametrize("way", [plain, chunked])
def test_a_client_that_leaves_before_its_answer(
    target: ServerProcess, way: Callable[..., bytes], hang_up: Callable[[Wire], None]
) -> None:
    body, headers = ones(1_000_000)
    base, log = target.connections(), len(target.log())
    for _ in range(5):
        wire = Wire(target.port)
        wire.send(way(INFER, body, headers))
        wire.head()
        hang_up(wire)
    until(lambda: target.connections() <= base)
    assert target.log()[log:] == ""


def test_clients_that_leave_while_the_model_runs(tmp_path: Path, serve) -> None:
    with WaitingModel(tmp_path / "model") as model:
        server = serve(model.folder)
        headers = {"Content-Type": "application/json"}
        for way in (plain, chunked):
            wire = Wire(server.port)
            wire.send(way("/infer", b'{"value": 1}', headers))
            run = model.next_run()
            reset(wire)
            until(lambda: server.connections() == 0)  # the one to the test is the worker's
            model.release(run)
        with Wire(server.port) as wire:
            wire.send(plain("/infer", b'{"value": 2}', headers))
            model.release(model.next_run())
            assert wire.reply().json() == {"status": "ok", "output": 2}
        assert "Traceback" not in server.log()
