"""A request that comes in one piece takes a short cut, and nobody can tell by its answer."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from pelton.servers.http_head import HeadReader
from servers.gate_on_a_wire import Site

BODY = b'{"inputs": [1, 2, 3]}'


def request(body: bytes = BODY, length: int | None = None, path: str = "/infer") -> bytes:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def reader() -> HeadReader:
    reader = HeadReader(10)
    reader.read(request().removesuffix(BODY))
    return reader


def test_a_whole_request_with_a_head_that_came_before_is_taken_apart(reader) -> None:
    head, body = reader.whole(request())
    assert head is not None
    assert (head.path, bytes(body)) == ("/infer", BODY)


@pytest.mark.parametrize("more", range(17))
def test_its_first_tensor_can_be_read_where_it_lies(more: int) -> None:
    told = f"Inference-Header-Content-Length: 7\r\nX-More: {'x' * more}\r\n"
    path = "/v2/models/m/infer"
    whole = request(b"<json> " + bytes(64), path=path).replace(b"Host", told.encode() + b"Host")
    reader = HeadReader(10)
    reader.read(whole[: whole.index(b"<json>")])
    head, body = reader.whole(whole)
    assert head is not None
    assert bytes(body) == b"<json> " + bytes(64)
    assert np.frombuffer(body, np.float64, 8, 7).flags.aligned


OTHERS = {
    "nothing": b"",
    "half a head": request()[:20],
    "a head and no body": request().removesuffix(BODY),
    "half a body": request()[:-1],
    "more than a body": request() + b"x",
    "two requests": request() * 2,
    "another head": request(path="/other"),
    "an empty line before it": b"\r\n" + request(),
    "the body alone": BODY,
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_everything_else_is_not(reader, data: bytes) -> None:
    assert reader.whole(data)[0] is None
    assert reader.whole(data, reader.whole(request())[0])[0] is None


def test_the_head_of_the_request_before_need_not_come_again(reader) -> None:
    before = reader.whole(request())[0]
    for path in ("/infer", "/infers", "/infer?model=m", "/v2/models/m/infer"):
        data = request(path=path)
        kept = reader.read(data.removesuffix(BODY))
        unkept = dataclasses.replace(before, raw=b"")
        for last in (None, before, unkept):
            head, body = reader.whole(data, last)
            assert head is kept
            assert bytes(body) == BODY


WHOLE = request()


@pytest.mark.parametrize("at", [1, 20, len(WHOLE) - len(BODY), len(WHOLE) - 1, len(WHOLE)])
async def test_both_ways_lead_to_the_same(at: int) -> None:
    site = Site(1 << 20)
    wire = site.connect(same_user=True)
    for data in (WHOLE, WHOLE, WHOLE[:at], WHOLE[at:], WHOLE):
        wire.arrive(data)
    assert [bytes(body) for body in site.door.bodies] == [BODY] * 4
    assert [origin.same_user for origin in site.door.origins] == [True] * 4
    assert wire.statuses() == [200] * 4
    site.door.bodies.clear()
    assert site.budget.buffered_bytes == 0


async def test_the_short_cut_keeps_the_bound_of_bodies() -> None:
    site = Site(1 << 20, max_body_bytes=len(BODY) - 1)
    for _ in range(2):
        wire = site.connect()
        wire.arrive(WHOLE)
        assert wire.statuses() == [413]
    assert site.door.bodies == []


async def test_the_short_cut_keeps_the_bound_of_memory() -> None:
    site = Site(len(BODY))
    site.connect().arrive(WHOLE)
    site.door.bodies.clear()
    site.door.hold = True
    site.connect().arrive(WHOLE)
    waiting = site.connect()
    waiting.arrive(WHOLE)
    assert not waiting.reading
    assert len(site.door.bodies) == 1


async def test_what_the_client_sends_while_it_is_answered_waits() -> None:
    site = Site(1 << 20)
    site.door.hold = True
    wire = site.connect()
    wire.arrive(WHOLE)
    wire.arrive(WHOLE)
    assert len(site.door.bodies) == 1
    site.door.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.statuses() == [200, 200]


async def test_a_client_that_says_close_is_closed_after_the_answer() -> None:
    closing = WHOLE.replace(b"Host: a", b"Host: a\r\nConnection: close")
    site = Site(1 << 20)
    for _ in range(2):
        wire = site.connect()
        wire.arrive(closing)
        assert wire.closing
        assert b"connection: close" in wire.written
