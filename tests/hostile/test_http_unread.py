"""Clients that do not read what they asked for: cut off, and made to wait before they ask on."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.conditions import MIB, Conditions
from hostile.echo_requests import ones
from oip_messages import floats, read_reply
from raw_http import Wire, chunked, get, plain
from support_server import ServerProcess, WaitingModel, until

INFER = "/v2/models/echo_fp32/infer"
LIVE = get("/v2/health/live")


BIG = 4_000_000
"""Floats; the answer is far larger than what the kernels of both sides keep."""


@pytest.mark.parametrize("way", [plain, chunked])
@pytest.mark.parametrize("last", [False, True], ids=["kept", "connection: close"])
def test_an_answer_that_nobody_takes(
    impatient: ServerProcess,
    impatient_conditions: Conditions,
    way: Callable[..., bytes],
    last: bool,
) -> None:
    body, headers = ones(BIG)
    if last:
        headers = {**headers, "Connection": "close"}
    request = way(INFER, body, headers)

    def attack() -> None:
        with Wire(impatient.port, receive_buffer_bytes=4096) as wire:
            wire.send(request)
            until(lambda: impatient.connections() == 0)

    impatient_conditions.memory_settles(attack, repeats=2, allowed_bytes=8 * MIB)


@pytest.mark.usefixtures("impatient_conditions")
def test_a_file_that_nobody_takes(impatient: ServerProcess) -> None:
    """Static files are streamed by the control side, and wait for the client there."""
    wires = [Wire(impatient.port, receive_buffer_bytes=4096) for _ in range(5)]
    for wire in wires:
        wire.send(get("/static-offline-docs/swagger-ui-bundle.js") * 20)
    until(lambda: impatient.connections() == 0)
    for wire in wires:
        wire.close()


@pytest.mark.parametrize(
    "request_bytes", [get("/openapi.json"), plain(INFER, *ones(2000))], ids=["control", "model"]
)
@pytest.mark.usefixtures("impatient_conditions")
def test_many_small_answers_that_nobody_takes(
    impatient: ServerProcess, request_bytes: bytes
) -> None:
    with Wire(impatient.port, receive_buffer_bytes=4096) as wire:
        wire.socket.setblocking(False)
        until(lambda: _stuffed(wire, request_bytes) or impatient.connections() == 0)
        until(lambda: impatient.connections() == 0)


def _stuffed(wire: Wire, request: bytes) -> bool:
    """Send until the server takes no more; true once it has not for a while."""
    try:
        while True:
            wire.socket.send(request * 50)
    except (BlockingIOError, ConnectionError):
        _, writable, _ = select.select([], [wire.socket], [], 0.2)
        return not writable


def test_a_slow_reader_who_keeps_reading_gets_all_of_it(target: ServerProcess) -> None:
    body, headers = ones(BIG)
    with Wire(target.port, receive_buffer_bytes=4096) as wire:
        for way in (plain, chunked):
            reply = wire.ask(way(INFER, body, headers))
            assert reply.status == 200
            assert (floats(read_reply(reply)["y"]) == 1).all()


def in_kernels(wire: Wire) -> int:
    """Return how many bytes are on their way to a client, in the kernel's memory of both ends."""
    here, there = (
        f":{name[1]:04X}" for name in (wire.socket.getsockname(), wire.socket.getpeername())
    )
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if here not in line:
            continue
        _, local, remote, _, queues, *_ = line.split()
        unsent, unread = (int(each, 16) for each in queues.split(":"))
        if local.endswith(there) and remote.endswith(here):
            total += unsent
        elif local.endswith(here) and remote.endswith(there):
            total += unread
    return total


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into Linux's sockets")
@pytest.mark.usefixtures("impatient_conditions")
def test_an_answer_left_half_unread_does_not_outlive_the_idle_time(
    impatient: ServerProcess,
) -> None:
    """Some of it is unsent, and less than the server waits for before the next request."""
    request = plain(INFER, *ones(4000))
    with Wire(impatient.port, receive_buffer_bytes=4096) as wire, Wire(impatient.port) as neighbour:
        length = len(wire.ask(request).body)
        asked = unsent = 0
        while unsent <= 0 and asked < 1000:
            wire.send(request * 3)  # together less than the server would wait for
            asked += 3
            assert neighbour.ask(LIVE).status == 200  # the server has been round
            # Bytes that move from one end to the other meanwhile may be missed, so look again.
            unsent = asked * length - max(in_kernels(wire) for _ in range(3))
        assert 0 < unsent < 64 * 1024
        until(lambda: impatient.connections() == 0)


# -- quick to ask --------------------------------------------------------------------------------

MOST_TAKEN_BYTES = 32 * MIB
"""What kernels and server may take of pipelined requests before the client has to wait."""


def push(wire: Wire, data: bytes, most: int) -> int:
    """Send the same again and again until it is not taken any more; return how much was."""
    sent = 0
    while sent < most:
        _, writable, _ = select.select([], [wire.socket], [], 0.3)
        if not writable:
            break
        sent += wire.socket.send(data[sent % len(data) :])
    return sent


def test_who_does_not_read_cannot_go_on_asking(target: ServerProcess) -> None:
    request = plain(INFER, *ones(250_000))
    with Wire(target.port, receive_buffer_bytes=4096) as wire:
        wire.socket.setblocking(False)
        sent = push(wire, request, 20 * MOST_TAKEN_BYTES)
        assert sent < MOST_TAKEN_BYTES
        # And once it reads, everything that it asked for is there, in order and whole.
        wire.socket.settimeout(20)
        whole = sent // len(request)
        for _ in range(whole):
            assert (floats(read_reply(wire.reply())["y"]) == 1).all()
        wire.send(request[sent % len(request) :])
        assert wire.reply().status == 200


def test_who_waits_for_a_model_cannot_go_on_asking(tmp_path: Path, serve) -> None:
    with WaitingModel(tmp_path / "model") as model:
        server = serve(model.folder, ends_well=False)  # with the rest of what was asked
        headers = {"Content-Type": "application/json"}
        request = plain("/infer", b'{"value": 1}' + b" " * 1000, headers)
        with Wire(server.port) as wire:
            wire.socket.setblocking(False)
            assert push(wire, request, 20 * MOST_TAKEN_BYTES) < MOST_TAKEN_BYTES
            model.release(model.next_run())
