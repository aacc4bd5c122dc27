"""The line is bounded, keeps its order, and holds each request exactly once."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pelton.batching.line import AGE_S, HIGHEST_LEVEL, LOWEST_LEVEL, Entry, Line, level_of

MAX_ROWS, MAX_BYTES = 20, 1000


def entry(
    arrived_s: float = 0.0,
    *,
    rows: int = 1,
    size: int = 10,
    priority: int = 0,
    deadline_s: float = math.inf,
) -> Entry:
    return Entry(
        rows=rows, bytes=size, arrived_s=arrived_s, priority=priority, deadline_s=deadline_s
    )


def line_of(*entries: Entry, first_come: bool = False) -> Line[Entry]:
    line: Line[Entry] = Line(4096, 1 << 20, first_come=first_come)
    for one in entries:
        assert line.put(one)
    return line


# Bounds


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        (entry(rows=10), entry(rows=11)),
        (entry(size=500), entry(size=501)),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_trace(fits: Entry, too_much: Entry) -> None:
    line: Line[Entry] = Line(MAX_ROWS, MAX_BYTES)
    assert line.put(entry(rows=10, size=500))
    assert not line.put(too_much)
    assert (len(line), line.rows, line.bytes, too_much.ticket) == (1, 10, 500, 0)
    assert line.put(fits)
    assert list(line.in_order())[1:] == [fits]


@pytest.mark.parametrize("huge", [entry(rows=MAX_ROWS + 1), entry(size=MAX_BYTES + 1)])
def test_one_larger_than_the_bound_waits_where_nobody_else_does(huge: Entry) -> None:
    line: Line[Entry] = Line(MAX_ROWS, MAX_BYTES)
    small = entry()
    assert line.put(small)
    assert not line.put(huge)
    line.remove(small)
    assert line.put(huge)
    assert not line.put(small)
    assert line.take((0,)) == [huge]
    assert (line.rows, line.bytes) == (0, 0)
    assert line.put(small)


# Order


def test_a_higher_priority_overtakes_and_the_default_is_the_middle() -> None:
    line = line_of(*[entry(0.0, priority=priority) for priority in (9, 6, 0, 5, 4, 1)])
    assert [one.priority for one in line.in_order()] == [1, 4, 0, 5, 6, 9]


def test_first_come_takes_no_notice_of_priorities() -> None:
    entries = [entry(index / 10, priority=9 - index) for index in range(9)]
    assert list(line_of(*entries, first_come=True).in_order()) == entries
    assert list(line_of(*entries).in_order()) == entries[::-1]


def test_the_rows_ahead_are_those_of_the_better_places_by_their_mean() -> None:
    line = line_of()
    assert line.rows_ahead(entry(priority=9)) == 0.0
    for index in range(4):
        assert line.put(entry(index / 10, rows=3))
    assert line.put(entry(0.4, rows=8, priority=1))
    for priority, rows in ((1, 20 / 5), (2, 20 / 5), (0, 20), (9, 20)):
        assert line.rows_ahead(entry(0.5, priority=priority)) == rows
    line = line_of(entry(rows=3), entry(0.1, rows=2), first_come=True)
    assert line.rows_ahead(entry(0.2, priority=1)) == 5


@given(st.integers(-(2**70), 2**70))
def test_whatever_priority_is_sent_is_one_of_the_levels(priority: int) -> None:
    assert HIGHEST_LEVEL <= level_of(priority) <= LOWEST_LEVEL


@pytest.mark.parametrize("priority", [0, 1, 5, 9, 2**63])
def test_nobody_waits_behind_those_of_the_highest_priority_who_come_much_later(
    priority: int,
) -> None:
    waits = entry(1000.0, priority=priority)
    line = line_of(waits)
    head_start_s = (level_of(priority) - HIGHEST_LEVEL) * AGE_S
    overtaking = 0
    for tenth in range(1, 200):
        newcomer = entry(1000.0 + tenth / 10, priority=1)
        assert line.put(newcomer)
        # One is served for each that comes: an endless stream of the highest priority.
        (served,) = line.take((0,))
        if served is waits:
            break
        overtaking += 1
        assert served.arrived_s < waits.arrived_s + head_start_s
    assert served is waits
    assert overtaking == pytest.approx(head_start_s * 10, abs=1)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 12)), max_size=50))
def test_within_a_level_the_order_is_that_of_arrival(items) -> None:
    line = line_of(*[entry(at_ms / 1000, priority=priority) for at_ms, priority in items])
    for level in range(1, 10):
        arrived = [one.arrived_s for one in line.in_order() if level_of(one.priority) == level]
        assert arrived == sorted(arrived)


# Deadlines


def test_those_whose_deadline_is_over_come_out_earliest_first() -> None:
    late, later, never = entry(deadline_s=2.0), entry(deadline_s=3.0), entry()
    line = line_of(never, later, late)
    assert line.next_deadline_s == 2.0
    assert line.expire(1.999) == []
    assert line.expire(2.0) == [late]
    assert line.next_deadline_s == 3.0
    assert line.expire(10.0) == [later]
    assert line.next_deadline_s == math.inf
    assert line.expire(math.inf) == []
    assert list(line.in_order()) == [never]
    assert line.rows == 1


def test_the_deadlines_of_those_who_left_are_forgotten() -> None:
    taken, removed, stays = (entry(deadline_s=deadline_s) for deadline_s in (1.0, 2.0, 3.0))
    line = line_of(taken, removed, stays)
    line.take((0,))
    line.remove(removed)
    assert line.next_deadline_s == 3.0
    assert line.expire(2.5) == []


def test_the_line_keeps_nothing_of_those_who_left() -> None:
    line: Line[Entry] = Line(MAX_ROWS, MAX_BYTES)
    first = WeaklyKept(rows=1, bytes=1, arrived_s=0.0, deadline_s=60.0)
    kept = weakref.ref(first)
    assert line.put(first)
    line.take((0,))
    del first
    gc.collect()
    assert kept() is None
    for index in range(10_000):
        assert line.put(entry(index, deadline_s=index + 60.0))
        line.take((0,))
    assert len(line._deadlines) < 100


class WeaklyKept(Entry):
    """What the engine does: an entry with more to it."""


# Leaving


def test_who_waits_no_more_is_not_removed_again() -> None:
    one, other = entry(), entry()
    line = line_of(one, other)
    assert line.remove(one)
    assert not line.remove(one)
    assert line.take((0,)) == [other]
    assert not line.remove(other)
    assert (one.ticket, other.ticket) == (0, 0)
    assert not line.remove(entry())
    assert (len(line), line.rows, line.bytes) == (0, 0, 0)


def test_one_of_another_line_is_not_removed() -> None:
    here, there = entry(), entry()
    line, other = line_of(here), line_of(there)
    assert here.ticket == there.ticket
    assert not line.remove(there)
    assert (len(line), len(other)) == (1, 1)


class LineMachine(RuleBasedStateMachine):
    """Any sequence of calls leaves what a plain sorted list would."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Line[Entry] = Line(MAX_ROWS, MAX_BYTES)
        self.waiting: list[Entry] = []

    def _left(self, gone: list[Entry]) -> None:
        self.waiting = [one for one in self.waiting if all(one is not other for other in gone)]

    @rule(
        arrived_s=st.integers(0, 5),
        priority=st.integers(0, 12),
        rows=st.integers(1, 25),
        size=st.integers(0, 1100),
        deadline_s=st.sampled_from([1.0, 2.0, 3.0, math.inf]),
    )
    def put(self, arrived_s, priority, rows, size, deadline_s) -> None:
        new = entry(arrived_s, rows=rows, size=size, priority=priority, deadline_s=deadline_s)
        fits = (
            sum(one.rows for one in self.waiting) + rows <= MAX_ROWS
            and sum(one.bytes for one in self.waiting) + size <= MAX_BYTES
        )
        assert self.line.put(new) == (fits or not self.waiting)
        if fits or not self.waiting:
            self.waiting.append(new)
            self.waiting.sort(key=lambda one: one.arrived_s + level_of(one.priority) * AGE_S)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def take(self, data) -> None:
        positions = sorted(data.draw(st.sets(st.integers(0, len(self.waiting) - 1))))
        taken = self.line.take(tuple(positions))
        assert taken == [self.waiting[position] for position in positions]
        self._left(taken)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data) -> None:
        gone = data.draw(st.sampled_from(self.waiting))
        assert self.line.remove(gone)
        assert not self.line.remove(gone)
        self._left([gone])

    @rule(now_s=st.sampled_from([0.5, 1.0, 2.5]))
    def expire(self, now_s) -> None:
        over = self.line.expire(now_s)
        wanted = [one for one in self.waiting if one.deadline_s <= now_s]
        assert {id(one) for one in over} == {id(one) for one in wanted}
        assert len(over) == len(wanted)
        self._left(over)

    @invariant()
    def agrees(self) -> None:
        assert list(self.line.in_order()) == self.waiting
        assert len(self.line) == len(self.waiting)
        assert self.line.rows == sum(one.rows for one in self.waiting)
        assert self.line.bytes == sum(one.bytes for one in self.waiting)
        earliest_s = min((one.deadline_s for one in self.waiting), default=math.inf)
        assert self.line.next_deadline_s == earliest_s
        within = self.line.rows <= MAX_ROWS and self.line.bytes <= MAX_BYTES
        assert within or len(self.line) == 1


TestLineMachine = LineMachine.TestCase
