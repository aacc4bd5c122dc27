"""The register of connections: room for new ones, and an end for those that take too long."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from engine.fake_models import FakeClock
from pelton.servers.connections import SWEEP_S, ConnectionLimits, Connections


class FakeConnection:
    """Notes what the register asks of it."""

    def __init__(self, deadline_s: float = math.inf) -> None:
        self.deadline_s = deadline_s
        self.asked: list[str] = []

    def expire(self) -> None:
        self.asked.append("expire")

    def close_idle(self) -> None:
        self.asked.append("close_idle")


def register_of(count: int) -> Connections:
    return Connections(ConnectionLimits(max_connections=count))


# -- room ----------------------------------------------------------------------------------------


async def test_connections_are_counted_until_they_leave() -> None:
    register = register_of(10)
    first, second = FakeConnection(), FakeConnection()
    assert len(register) == 0
    assert register.admit(first)
    assert register.admit(second)
    assert len(register) == 2
    register.leave(first)
    register.leave(first)
    assert len(register) == 1


async def test_the_longest_idle_connection_makes_room() -> None:
    register = register_of(3)
    oldest, middle, youngest, new = (FakeConnection() for _ in range(4))
    for connection in (oldest, middle, youngest):
        assert register.admit(connection)
    assert register.admit(new)
    assert len(register) == 3
    assert oldest.asked == ["close_idle"]
    assert middle.asked == youngest.asked == new.asked == []


async def test_idle_time_counts_from_the_last_answer_not_from_the_opening() -> None:
    register = register_of(2)
    first, second = FakeConnection(), FakeConnection()
    register.admit(first)
    register.admit(second)
    register.busy(first)
    register.idle(first)  # its answer is out: now `second` has been idle for longer
    register.admit(FakeConnection())
    assert (first.asked, second.asked) == ([], ["close_idle"])


async def test_a_busy_connection_is_never_closed_for_room() -> None:
    register = register_of(2)
    busy, idle = FakeConnection(), FakeConnection()
    register.admit(busy)
    register.admit(idle)
    register.busy(busy)
    assert register.admit(FakeConnection())
    assert (busy.asked, idle.asked) == ([], ["close_idle"])


async def test_a_newcomer_is_refused_when_all_are_busy_and_admitted_when_one_is_idle() -> None:
    register = register_of(2)
    connections = [FakeConnection(), FakeConnection()]
    for connection in connections:
        register.admit(connection)
        register.busy(connection)
    refused = FakeConnection()
    assert not register.admit(refused)
    assert len(register) == 2
    assert refused.asked == []
    register.idle(connections[1])
    assert register.admit(refused)
    assert connections[1].asked == ["close_idle"]


async def test_a_refused_connection_that_leaves_changes_nothing() -> None:
    register = register_of(1)
    only, refused = FakeConnection(), FakeConnection()
    register.admit(only)
    register.busy(only)
    assert not register.admit(refused)
    register.leave(refused)
    assert len(register) == 1
    assert not register.admit(refused)


async def test_connections_that_left_are_not_asked_to_make_room() -> None:
    register = register_of(2)
    gone, stays = FakeConnection(), FakeConnection()
    register.admit(gone)
    register.admit(stays)
    register.leave(gone)
    assert register.admit(FakeConnection())
    assert register.admit(FakeConnection())
    assert (gone.asked, stays.asked) == ([], ["close_idle"])


async def test_the_cap_holds_however_many_come() -> None:
    register = register_of(5)
    connections = [FakeConnection() for _ in range(500)]
    assert all(register.admit(connection) for connection in connections)
    assert len(register) == 5
    assert [bool(connection.asked) for connection in connections] == [True] * 495 + [False] * 5


async def test_being_full_is_logged_once_not_for_each_newcomer(caplog) -> None:
    register = register_of(4)
    with caplog.at_level(logging.WARNING, "pelton.http"):
        for _ in range(50):
            register.admit(FakeConnection())
    assert [record.getMessage() for record in caplog.records] == [
        "4 connections are open, which is max_connections; idle ones are closed to make room"
    ]


# -- deadlines -----------------------------------------------------------------------------------


@pytest.fixture
async def clock(monkeypatch) -> FakeClock:
    """The loop's own clock, moved by the test: nothing here waits for real time."""
    clock = FakeClock(1000.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


async def swept(clock: FakeClock, seconds: float) -> None:
    """Let time pass, and the sweeper wake up as often as it would."""
    end_s = clock.now_s + seconds
    while clock.now_s < end_s:
        clock.now_s = min(end_s, clock.now_s + SWEEP_S)
        for _ in range(4):
            await asyncio.sleep(0)


async def test_a_deadline_that_passes_is_told_once(clock: FakeClock) -> None:
    register = register_of(10)
    early, late, never = (FakeConnection(at) for at in (1002.0, 1010.0, math.inf))
    for connection in (early, late, never):
        register.admit(connection)
    await swept(clock, 1.5)
    assert early.asked == []
    await swept(clock, 1.0)
    assert (early.asked, late.asked, never.asked) == (["expire"], [], [])
    await swept(clock, 100.0)
    assert (early.asked, late.asked, never.asked) == (["expire"], ["expire"], [])


async def test_a_deadline_that_was_moved_in_time_does_not_pass(clock: FakeClock) -> None:
    register, connection = register_of(10), FakeConnection(1002.0)
    register.admit(connection)
    for _ in range(10):
        await swept(clock, 1.0)
        connection.deadline_s = clock.now_s + 2.0
    assert connection.asked == []
    await swept(clock, 2.5)
    assert connection.asked == ["expire"]


async def test_a_connection_that_left_has_no_deadline(clock: FakeClock) -> None:
    register, connection = register_of(10), FakeConnection(1002.0)
    register.admit(connection)
    register.leave(connection)
    await swept(clock, 5.0)
    assert connection.asked == []


async def test_a_busy_connection_has_its_deadline_too(clock: FakeClock) -> None:
    register, connection = register_of(10), FakeConnection(1002.0)
    register.admit(connection)
    register.busy(connection)
    await swept(clock, 3.0)
    assert connection.asked == ["expire"]


async def test_a_connection_may_leave_and_others_come_while_deadlines_pass(clock) -> None:
    register = register_of(10)

    class Leaving(FakeConnection):
        def expire(self) -> None:
            super().expire()
            register.leave(self)
            register.admit(FakeConnection())

    connections = [Leaving(1001.0) for _ in range(5)]
    for connection in connections:
        register.admit(connection)
    await swept(clock, 2.0)
    assert [connection.asked for connection in connections] == [["expire"]] * 5
    assert len(register) == 5


async def test_a_connection_that_cannot_be_expired_does_not_keep_the_others_open(clock) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_told: None)
    register = register_of(10)

    class Broken(FakeConnection):
        def expire(self) -> None:
            raise RuntimeError("the transport is gone")

    register.admit(Broken(1001.0))
    await swept(clock, 2.0)
    later = FakeConnection(1005.0)
    register.admit(later)
    await swept(clock, 5.0)
    assert later.asked == ["expire"]


async def test_being_full_is_told_again_once_it_was_half_empty(clock, caplog) -> None:
    register = register_of(4)
    with caplog.at_level(logging.WARNING, "pelton.http"):
        connections = [FakeConnection() for _ in range(5)]
        for connection in connections:
            register.admit(connection)
        for connection in connections:
            register.leave(connection)
        await swept(clock, 1.0)
        for _ in range(5):
            register.admit(FakeConnection())
    assert len(caplog.records) == 2
