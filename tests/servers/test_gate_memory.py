"""A connection for whose body there is no memory is not read; what is held is always given back."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

import pytest

from pelton.servers import http_gate
from pelton.testing.fakes import FakeClock
from servers.gate_on_a_wire import Site, head

KIB = 1024
LIMIT = 1024 * KIB
LARGE = 512 * KIB


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def site() -> Site:
    return Site(LIMIT)


# -- bodies --------------------------------------------------------------------------------------


async def test_a_body_is_charged_from_its_head_until_it_is_answered_and_let_go(
    site: Site,
) -> None:
    wire = site.connect()
    wire.arrive(head(LARGE))
    assert site.budget.buffered_bytes == LARGE
    wire.arrive(bytes(LARGE))
    assert wire.statuses() == [200]
    assert site.budget.buffered_bytes == LARGE  # the door has kept a view
    site.door.bodies.clear()
    assert site.budget.buffered_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 1000, 30 * KIB])
async def test_a_body_that_came_with_its_head_is_charged_while_it_is_answered(
    site: Site, size: int
) -> None:
    site.door.hold = True
    wire = site.connect()
    wire.arrive(head(size) + bytes(size))
    assert site.budget.buffered_bytes == size
    site.door.release()
    await rounds()
    assert wire.statuses() == [200]
    assert site.budget.buffered_bytes == 0


async def test_a_body_that_does_not_fit_stays_with_its_client_until_it_does(site: Site) -> None:
    site.door.hold = True
    first, second = site.connect(), site.connect()
    first.arrive(head(LIMIT) + bytes(LIMIT))
    second.arrive(head(LARGE, "Expect: 100-continue"))
    assert not second.reading
    assert second.written == b""
    assert site.budget.waiting_for_memory == 1
    assert site.budget.buffered_bytes == LIMIT

    site.door.release()
    site.door.bodies.clear()
    await rounds()
    assert first.statuses() == [200]
    assert second.reading
    assert second.statuses() == [100]
    second.arrive(bytes(LARGE))
    assert second.statuses() == [100, 200]
    site.door.bodies.clear()
    assert site.budget.buffered_bytes == site.budget.waiting_for_memory == 0


async def test_the_part_of_a_body_that_came_with_its_head_is_kept_while_it_waits(
    site: Site,
) -> None:
    holder, wire = site.connect(), site.connect()
    holder.arrive(head(LIMIT))
    body = bytes(range(256)) * (LARGE // 256)
    wire.arrive(head(LARGE) + body[:1000])
    holder.gate.connection_lost(None)
    await rounds()
    wire.arrive(body[1000:])
    assert site.door.bodies[0] == body


async def test_a_small_body_is_taken_beside_one_that_waits(site: Site) -> None:
    holder, waiting, small = (site.connect() for _ in range(3))
    holder.arrive(head(LIMIT - KIB))
    waiting.arrive(head(LARGE))
    small.arrive(head(3) + b"abc")
    assert small.statuses() == [200]


async def test_small_requests_wait_too_when_all_memory_is_used(site: Site) -> None:
    holder, small = site.connect(), site.connect()
    holder.arrive(head(LIMIT))
    small.arrive(head(3) + b"abc" + head(3) + b"def")
    assert small.statuses() == []
    assert not small.reading
    holder.gate.connection_lost(None)
    await rounds()
    assert small.reading
    assert small.statuses() == [200, 200]
    assert [bytes(body) for body in site.door.bodies] == [b"abc", b"def"]


async def test_a_request_without_a_body_never_waits(site: Site) -> None:
    holder, wire = site.connect(), site.connect()
    holder.arrive(head(LIMIT))
    wire.arrive(head(0))
    assert wire.statuses() == [200]


# -- patience --------------------------------------------------------------------------------------


async def test_who_waits_for_too_long_is_told_when_to_come_again(site: Site) -> None:
    holder, wire = site.connect(), site.connect()
    holder.arrive(head(LIMIT))
    before_s = asyncio.get_running_loop().time()
    wire.arrive(head(LARGE))
    waited_s = wire.gate.deadline_s - before_s
    assert waited_s == pytest.approx(site.budget.patience_s, abs=1)
    wire.gate.expire()
    assert wire.statuses() == [503]
    assert b"retry-after: 1\r\n" in wire.written
    assert b"max_buffered_bytes" in wire.written
    assert b"connection: close\r\n" in wire.written
    assert site.budget.waiting_for_memory == 0
    assert wire.reading  # what still comes is thrown away

    holder.gate.connection_lost(None)
    await rounds()
    wire.arrive(bytes(LARGE))
    assert wire.statuses() == [503]
    assert site.budget.buffered_bytes == 0


async def test_the_time_for_a_body_begins_when_it_is_let_in(site: Site) -> None:
    holder, wire = site.connect(), site.connect()
    holder.arrive(head(LIMIT))
    wire.arrive(head(LARGE))
    wire.gate.deadline_s = 0.0
    holder.gate.connection_lost(None)
    await rounds()
    left_s = wire.gate.deadline_s - asyncio.get_running_loop().time()
    assert left_s == pytest.approx(site.gateway.limits.body_timeout_s, abs=1)


# -- clients that hang up --------------------------------------------------------------------------


async def test_who_hangs_up_in_the_line_lets_the_next_in(site: Site) -> None:
    holder, first, second = (site.connect() for _ in range(3))
    holder.arrive(head(LARGE))
    first.arrive(head(LIMIT))
    second.arrive(head(LARGE))
    first.gate.connection_lost(None)
    await rounds()
    assert second.reading
    assert site.budget.waiting_for_memory == 0


async def test_who_hangs_up_in_the_body_gives_its_memory_back(site: Site) -> None:
    wire = site.connect()
    wire.arrive(head(LARGE) + bytes(100))
    wire.gate.connection_lost(None)
    assert site.budget.buffered_bytes == 0


async def test_a_cancelled_request_is_charged_as_long_as_somebody_reads_its_body(
    site: Site,
) -> None:
    site.door.hold = True
    wire = site.connect()
    wire.arrive(head(LARGE) + bytes(LARGE))
    run = site.door.bodies.pop()
    wire.gate.connection_lost(None)
    await rounds()
    assert site.budget.buffered_bytes == LARGE
    del run
    assert site.budget.buffered_bytes == 0


async def test_a_small_request_that_is_cancelled_gives_its_memory_back(site: Site) -> None:
    site.door.hold = True
    wire = site.connect()
    wire.arrive(head(3) + b"abc")
    wire.gate.connection_lost(None)
    await rounds()
    assert site.budget.buffered_bytes == 0


# -- answers ---------------------------------------------------------------------------------------


async def test_an_answer_is_charged_until_its_client_has_taken_it(site: Site) -> None:
    site.door.answer_bytes = LIMIT
    slow, other = site.connect(), site.connect()
    slow.takes = False
    slow.arrive(head(3) + b"abc")
    assert site.budget.buffered_bytes == LIMIT
    other.arrive(head(3) + b"abc")
    assert not other.reading
    slow.take()
    await rounds()
    assert other.reading
    assert other.statuses() == [200]
    assert site.budget.buffered_bytes == 0


async def test_an_answer_that_is_never_taken_is_given_back_with_its_connection(
    site: Site,
) -> None:
    site.door.answer_bytes = LARGE
    wire = site.connect()
    wire.takes = False
    wire.arrive(head(3) + b"abc")
    wire.gate.expire()
    wire.transport.abort.assert_called_once_with()
    wire.gate.connection_lost(None)
    assert site.budget.buffered_bytes == 0


async def test_answers_beyond_the_bound_are_replaced_by_a_refusal(site: Site) -> None:
    site.door.hold = True
    site.door.answer_bytes = LARGE + 1
    wires = [site.connect() for _ in range(3)]
    for wire in wires:
        wire.takes = False
        wire.arrive(head(3, "X-Request-Id: mine") + b"abc")
    site.door.release()
    await rounds()
    assert [wire.statuses() for wire in wires] == [[200], [503], [503]]
    assert b'"request_id":"mine"' in wires[1].written
    assert site.budget.buffered_bytes < LARGE + KIB
    for wire in wires:
        wire.take()
    assert site.budget.buffered_bytes == 0


# -- where and when a request came from ------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock(10.0)
    monkeypatch.setattr(http_gate, "time", SimpleNamespace(monotonic=fake))
    return fake


async def test_the_door_is_told_when_the_first_byte_came(site: Site, clock: FakeClock) -> None:
    wire = site.connect()
    request = head(3) + b"abc"
    wire.arrive(request[:5])
    clock.now_s = 20.0
    wire.arrive(request[5:])
    clock.now_s = 30.0
    wire.arrive(request)
    assert [each.arrived_s for each in site.door.origins] == [10.0, 30.0]


async def test_pipelined_requests_count_from_when_they_were_read(
    site: Site, clock: FakeClock
) -> None:
    site.door.hold = True
    wire = site.connect()
    request = head(3) + b"abc"
    wire.arrive(request + request[:20])
    clock.now_s = 20.0
    wire.arrive(request[20:] + request[:20])
    clock.now_s = 30.0
    wire.arrive(request[20:])
    site.door.release()
    await rounds()
    # The third began with the bytes that came last when the second was taken off.
    assert [each.arrived_s for each in site.door.origins[:2]] == [10.0, 10.0]
    assert site.door.origins[2].arrived_s >= 20.0


async def test_a_request_behind_a_large_body_counts_from_its_own_bytes(
    site: Site, clock: FakeClock
) -> None:
    wire = site.connect()
    wire.arrive(head(LARGE))
    wire.arrive(bytes(LARGE - 1))
    clock.now_s = 20.0
    wire.arrive(b"x" + head(0))
    assert [each.arrived_s for each in site.door.origins] == [10.0, 20.0]


@pytest.mark.parametrize("same_user", [False, True])
async def test_the_door_is_told_who_asks(site: Site, same_user: bool) -> None:
    site.connect(same_user).arrive(head(3) + b"abc")
    assert [each.same_user for each in site.door.origins] == [same_user]


# -- clients that send no more ---------------------------------------------------------------------


async def test_a_client_that_sends_no_more_is_probed_until_it_has_its_answer(site: Site) -> None:
    """A client that closed fails the second of these writes; one that listens passes over them."""
    site.door.hold = True
    wire = site.connect()
    wire.arrive(head(3) + b"abc")
    assert wire.gate.eof_received()
    wire.gate.expire()
    assert wire.statuses() == [100, 100]
    assert wire.gate.deadline_s < math.inf
    site.door.release()
    await rounds()
    assert wire.statuses() == [100, 100, 200]
    assert wire.closing


async def test_an_old_client_is_not_sent_what_it_does_not_know(site: Site) -> None:
    site.door.hold = True
    wire = site.connect()
    wire.arrive(head(3).replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc")
    assert wire.gate.eof_received()
    assert wire.statuses() == []
