"""Requests that arrive in pieces, and several that arrive in one piece."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hostile.conditions import REFERENCES, Conditions
from oip_messages import binary_request, binary_tensor, floats, json_body, read_reply, tensor
from raw_http import RawReply, Wire, as_chunks, chunked, get, head_bytes, plain
from support_server import ServerProcess

LIVE = get("/v2/health/live")
PLAIN_ONE = plain("/infer?model=plain", b'{"value":1}', {"Content-Type": "application/json"})


def echo(value: float, model: str = "echo_fp32", count: int = 1) -> bytes:
    """Write a small binary request that is answered with its own number."""
    header = {
        "inputs": [binary_tensor("x", "FP32", [count], 4 * count)],
        "parameters": {"binary_data_output": True},
    }
    array = np.full(count, value, "<f4")
    return binary_request(f"/v2/models/{model}/infer", header, array.tobytes())


def echoed(reply: RawReply) -> float:
    """Return that number."""
    assert reply.status == 200, reply
    numbers = floats(read_reply(reply)["y"])
    assert (numbers == numbers[0]).all()
    return float(numbers[0])


SPLIT = {
    "binary tensor": echo(7),
    "GET": LIVE,
    "JSON": plain("/infer?model=echo_fp32", b"[1, 2]", {"Content-Type": "application/json"}),
    "chunked": chunked(
        "/infer?model=echo_fp32", b"[1, 2]", {"Content-Type": "application/json"}, 2
    ),
    "control with a body": plain("/v2/nowhere", b"12345"),
    "refused": plain("/v2/models/nobody/infer", b"{}"),
    "empty lines before it": b"\r\n\r\n" + LIVE,
}


class Neighbour:
    """A second connection; its answer tells that the server has read what the first one sent."""

    def __init__(self, port: int) -> None:
        self._wire = Wire(port)

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._wire.close()

    def wait(self) -> None:
        """Let the server's loop go round."""
        assert self._wire.ask(LIVE).status == 200


@pytest.mark.parametrize("name", SPLIT)
def test_a_request_in_two_pieces_split_at_every_byte(
    target: ServerProcess, conditions: Conditions, name: str
) -> None:
    request = SPLIT[name]
    others = [each for other, each in SPLIT.items() if other != name]
    with conditions.unharmed(), Wire(target.port) as wire, Neighbour(target.port) as neighbour:
        whole = _told(wire.ask(request))
        answers = [_told(wire.ask(other)) for other in others]
        for cut, (other, answer) in zip(
            range(1, len(request)), itertools.cycle(zip(others, answers, strict=True))
        ):
            wire.send(request[:cut])
            neighbour.wait()
            assert _told(wire.ask(request[cut:])) == whole, cut
            # The same connection goes from door to door.
            assert _told(wire.ask(other)) == answer, cut


@pytest.mark.parametrize("name", SPLIT)
def test_a_request_byte_by_byte(target: ServerProcess, conditions: Conditions, name: str) -> None:
    request = SPLIT[name]
    with conditions.unharmed(), Wire(target.port) as wire, Neighbour(target.port) as neighbour:
        whole = _told(wire.ask(request))
        for byte in request[:-1]:
            wire.send(bytes([byte]))
            neighbour.wait()
        assert _told(wire.ask(request[-1:])) == whole
        assert wire.ask(LIVE).status == 200


@pytest.mark.parametrize("beyond", [1, 2, 40])
def test_the_end_of_a_body_comes_with_the_next_request(
    target: ServerProcess, conditions: Conditions, beyond: int
) -> None:
    first, second = SPLIT["binary tensor"], SPLIT["JSON"]
    with conditions.unharmed(), Wire(target.port) as wire, Neighbour(target.port) as neighbour:
        answers = [_told(wire.ask(request)) for request in (first, second)]
        wire.send(first[:-5])  # the head is in, so the rest is received into the body's block
        neighbour.wait()
        wire.send(first[-5:] + second[:beyond])
        assert _told(wire.reply()) == answers[0]
        neighbour.wait()
        assert _told(wire.ask(second[beyond:])) == answers[1]


def _told(reply: RawReply) -> tuple[int, object]:
    if reply.status == 200:
        return reply.status, reply.body
    return reply.status, reply.json()["error"]


def test_requests_in_one_segment_are_answered_in_order(
    target: ServerProcess, conditions: Conditions
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        wire.send(b"".join(echo(number) for number in range(200)))
        assert [echoed(wire.reply()) for _ in range(200)] == list(range(200))


def test_a_mixture_in_one_segment_is_answered_in_order(
    target: ServerProcess, conditions: Conditions
) -> None:
    """Models that answer at once, one in a thread, the control side, a refusal of a model."""
    mixture = [echo(5), PLAIN_ONE, LIVE, plain("/v2/models/nobody/infer", b"{}"), LIVE, PLAIN_ONE]
    with conditions.unharmed(), Wire(target.port) as wire:
        wire.send(b"".join(mixture) * 20)
        for _ in range(20):
            assert echoed(wire.reply()) == 5
            assert wire.reply().json() == {"status": "ok", "output": 1}
            assert wire.reply().body == b'{"live":true}'
            assert wire.reply().status == 404
            assert wire.reply().body == b'{"live":true}'
            assert wire.reply().json() == {"status": "ok", "output": 1}


def test_requests_behind_big_bodies_wait_for_their_turn(
    target: ServerProcess, conditions: Conditions
) -> None:
    big = 300_000
    with conditions.unharmed(), Wire(target.port) as wire:
        for _ in range(3):
            wire.send(echo(1, count=big) + LIVE + echo(2) + echo(3, count=big) + LIVE)
            assert echoed(wire.reply()) == 1
            assert wire.reply().body == b'{"live":true}'
            assert echoed(wire.reply()) == 2
            assert echoed(wire.reply()) == 3
            assert wire.reply().body == b'{"live":true}'


def test_what_is_pipelined_behind_chunks_is_closed_and_never_run(
    target: ServerProcess, conditions: Conditions
) -> None:
    body = json_body(tensor("x", "INT8", [1], [3]))
    first = chunked("/v2/models/echo_int8/infer", body)
    second = plain("/v2/models/echo_int16/infer", body.replace(b"INT8", b"INT16"))
    before = _requests(target, "echo_int8"), _requests(target, "echo_int16")
    with conditions.unharmed():
        for pipelined in (second, second * 100, first, second[:1], b"garbage" * 100):
            with Wire(target.port) as wire:
                wire.send_while_taken(first + pipelined)
                replies = wire.all_replies()
                assert [reply.status for reply in replies] == [200]
    assert _requests(target, "echo_int8") == before[0] + 5
    assert _requests(target, "echo_int16") == before[1]


def test_empty_lines_behind_chunks_are_no_request(target: ServerProcess) -> None:
    with Wire(target.port) as wire:
        body = json_body(tensor("x", "INT8", [1], [3]))
        for _ in range(3):
            wire.send(chunked("/v2/models/echo_int8/infer", body) + b"\r\n")
            assert wire.reply().status == 200


def test_what_comes_once_the_chunks_are_in_is_answered(
    target: ServerProcess, conditions: Conditions
) -> None:
    body = json_body(tensor("x", "INT8", [1], [3]))
    with conditions.unharmed(), Wire(target.port) as wire, Neighbour(target.port) as neighbour:
        for _ in range(50):
            wire.send(chunked("/v2/models/echo_int8/infer", body))
            neighbour.wait()
            wire.send(echo(4))
            assert wire.reply().status == 200
            assert echoed(wire.reply()) == 4


def _requests(server: ServerProcess, model: str) -> int:
    with Wire(server.port) as wire:
        total: int = wire.ask(get(f"/stats?model={model}")).json()["total_requests"]
    return total


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 1 << 20])
def test_chunks_of_any_size(
    target: ServerProcess, conditions: Conditions, chunk_bytes: int
) -> None:
    request = echo(6, count=5000)
    head, _, body = request.partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    assert b"chunked" in head
    with conditions.unharmed(), Wire(target.port) as wire:
        for _ in range(3):
            wire.send(head + b"\r\n\r\n" + as_chunks(body, chunk_bytes))
            assert echoed(wire.reply()) == 6


def test_every_door_on_one_connection_in_every_order(
    target: ServerProcess, conditions: Conditions
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        wanted = [wire.ask(request).body for request in REFERENCES]
        for order in itertools.permutations(range(len(REFERENCES))):
            for index in order:
                assert wire.ask(REFERENCES[index]).body == wanted[index], order


def test_expect_100_continue(target: ServerProcess, conditions: Conditions) -> None:
    """The body is sent only when it is welcome, on every way in."""
    request = echo(8, count=5000)
    head, _, body = request.partition(b"\r\n\r\n")
    chunked_head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    expect = b"\r\nExpect: 100-continue\r\n\r\n"
    with conditions.unharmed(), Wire(target.port) as wire:
        for this_head, this_body in ((head, body), (chunked_head, as_chunks(body))) * 3:
            wire.send(this_head + expect)
            assert wire.head().status == 100
            wire.send(this_body)
            assert echoed(wire.reply()) == 8
        # Who sends the body without waiting gets no interim answer that it did not need.
        wire.send(head + expect + body)
        assert wire.head().status in (100, 200)


@pytest.mark.parametrize("path", ["/v2/models/echo_fp32/infer", "/v2/nowhere"])
def test_a_body_that_is_too_large_is_not_asked_for(
    target: ServerProcess, conditions: Conditions, path: str
) -> None:
    headers = {"Content-Length": str(10**9), "Expect": "100-continue"}
    with conditions.unharmed(), Wire(target.port) as wire:
        wire.send(head_bytes("POST", path, headers))
        assert wire.head().status == 413
