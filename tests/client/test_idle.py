"""Which kept connection carries the next request."""

from __future__ import annotations

import os
import threading

import pytest

from pelton.client import idle
from pelton.client.failure import NoReply
from pelton.client.idle import IdleConnections


class FakeConnection:
    def __init__(self, last_used_s: float = 0.0, *, reusable: bool = True, quiet: bool = True):
        self.last_used_s = last_used_s
        self.reusable = reusable
        self.quiet = quiet
        self.closed = False

    def is_quiet(self) -> bool:
        return self.quiet

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is set."""
    time_s = [0.0]
    monkeypatch.setattr(idle.time, "monotonic", lambda: time_s[0])
    return time_s


def test_the_last_one_back_is_the_first_one_out(now):
    stack, first, second = IdleConnections(4.0), FakeConnection(), FakeConnection()
    stack.put(first)
    stack.put(second)
    assert [stack.take(), stack.take(), stack.take()] == [second, first, None]
    assert not first.closed
    assert not second.closed


def test_one_that_cannot_carry_another_request_is_closed(now):
    stack, used_up = IdleConnections(4.0), FakeConnection(reusable=False)
    stack.put(used_up)
    assert used_up.closed
    assert stack.take() is None


def test_one_that_the_server_hung_up_is_closed_and_the_next_one_taken(now):
    stack, good, dead = IdleConnections(4.0), FakeConnection(), FakeConnection(quiet=False)
    stack.put(good)
    stack.put(dead)
    assert stack.take() is good
    assert dead.closed


def test_an_old_one_is_closed_even_if_nobody_asks_for_it(now):
    stack, old, young = IdleConnections(4.0), FakeConnection(0.0), FakeConnection(3.0)
    stack.put(old)
    now[0] = 3.9
    stack.put(young)
    assert not old.closed
    assert stack.take() is young
    now[0] = 4.0
    stack.put(young)
    assert old.closed
    assert stack.take() is young


def test_after_closing_nothing_is_kept_or_given(now):
    stack, kept, busy = IdleConnections(4.0), FakeConnection(), FakeConnection()
    stack.put(kept)
    stack.close()
    stack.put(busy)
    assert kept.closed
    assert busy.closed
    with pytest.raises(NoReply, match="this client is closed"):
        stack.take()


def test_a_child_process_does_not_speak_on_its_parents_connections(now, monkeypatch):
    stack, parents = IdleConnections(4.0), FakeConnection()
    stack.put(parents)
    child = os.getpid() + 1
    monkeypatch.setattr(idle.os, "getpid", lambda: child)
    assert stack.take() is None
    own = FakeConnection()
    stack.put(own)
    assert stack.take() is own


def test_a_child_process_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held(
    now, monkeypatch
):
    stack = IdleConnections(4.0)
    stack._lock.acquire()
    child = os.getpid() + 1
    monkeypatch.setattr(idle.os, "getpid", lambda: child)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(stack.take()), daemon=True)
    thread.start()
    thread.join(5.0)
    assert taken == [None]


def test_an_old_one_is_closed_also_when_one_comes_back_that_is_used_up(now):
    stack, old = IdleConnections(4.0), FakeConnection(0.0)
    stack.put(old)
    now[0] = 4.0
    stack.put(FakeConnection(4.0, reusable=False))
    assert old.closed
