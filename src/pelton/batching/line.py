"""The bounded line of requests that wait for one model, in the order in which they are served.

Admission is decided here: what would not fit is refused at once, never kept and dropped later.
What is taken out of the line, and when, is decided in `window.py`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

HIGHEST_LEVEL = 1
DEFAULT_LEVEL = 5
LOWEST_LEVEL = 9
"""Priorities 1 to 9 are levels of their own; 0 is the default, 5; what is above 9 counts as 9."""

AGE_S = 1.0
"""Waiting this long is worth one level."""

_STALE = 64
"""How many deadlines of requests that have left may lie about before they are swept out."""


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One request that may wait; the engine extends it by what it needs to answer.

    What decides the order and the bounds (`rows`, `bytes`, `arrived_s`, `priority`, `deadline_s`)
    must not change while it waits.

    Attributes:
        rows: how many rows it counts as, at least 1; see `stacking.rows_of`.
        bytes: bytes of its inputs.
        arrived_s: when it came, on the clock of `deadline_s`.
        group: equal for requests that may share a run; None for one that must run alone.
        priority: 1 is served first, then 2, 3 and so on; 0 is the default, which is the middle.
        deadline_s: when its answer is of no use any more; may be infinity.
        free_since_s: since when it has waited although an instance was free, or infinity where
            none was. The engine sets it.
        ticket: its number in the line; 0 while it is in none. The line sets it.
    """

    rows: int
    bytes: int
    arrived_s: float
    group: Hashable = None
    priority: int = 0
    deadline_s: float = math.inf
    free_since_s: float = math.inf
    ticket: int = field(default=0, init=False)


E = TypeVar("E", bound=Entry)


def level_of(priority: int) -> int:
    """Turn a caller's priority into a level, whatever number it sent.

    >>> [level_of(priority) for priority in (1, 2, 0, 5, 9, 10, 2**63)]
    [1, 2, 5, 5, 9, 9, 9]
    """
    if priority <= 0:
        return DEFAULT_LEVEL
    return min(priority, LOWEST_LEVEL)


class Line(Generic[E]):
    """Holds waiting requests, bounded by rows and by bytes, in the order of service.

    A request is served as if it had come `AGE_S` later for each level that it is below the
    highest. So a higher priority overtakes, and yet nobody starves: whoever has waited longer
    than `AGE_S` for each level between the two is ahead of any newcomer, so a default request
    waits behind those of priority 1 that come within 4 s after it, and behind no later ones.
    Within one level the order is that of arrival. The place is fixed on entry, so that keeping
    the order costs a search in a sorted list. (The rule is that of earliest-deadline-first
    scheduling with a relative deadline for each level: Liu and Layland, "Scheduling Algorithms
    for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973.)

    One request that is larger than the whole bound is taken in while nothing else waits: so the
    bound is exceeded by one request at most, and none is refused for ever.

    >>> line = Line(max_rows=4, max_bytes=1000)
    >>> ordinary, urgent = (
    ...     Entry(rows=2, bytes=80, arrived_s=0.0),
    ...     Entry(rows=1, bytes=40, arrived_s=0.1, priority=1),
    ... )
    >>> line.put(ordinary), line.put(urgent), line.put(Entry(rows=2, bytes=80, arrived_s=0.2))
    (True, True, False)
    >>> line.in_order() == [urgent, ordinary], line.rows
    (True, 3)
    """

    def __init__(self, max_rows: int, max_bytes: int, *, first_come: bool = False) -> None:
        """Start an empty line.

        Args:
            max_rows: rows that may wait.
            max_bytes: bytes of inputs that may wait.
            first_come: whether to serve in order of arrival alone, whatever the priorities.
        """
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.rows = 0
        self.bytes = 0
        self._age_s = 0.0 if first_come else AGE_S
        self._entries: list[E] = []
        self._places: list[float] = []
        self._by_ticket: dict[int, E] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: E) -> bool:
        """Let a request wait, unless it does not fit.

        Args:
            entry: in no line yet.

        Returns:
            Whether it waits now; False where the line is too full for it.
        """
        rows, size_bytes = self.rows + entry.rows, self.bytes + entry.bytes
        if self._entries and (rows > self.max_rows or size_bytes > self.max_bytes):
            return False
        self.rows, self.bytes = rows, size_bytes
        place = self._place_of(entry)
        index = bisect_right(self._places, place)
        self._places.insert(index, place)
        self._entries.insert(index, entry)
        entry.ticket = next(self._tickets)
        self._by_ticket[entry.ticket] = entry
        if entry.deadline_s != math.inf:
            self._add_deadline(entry)
        return True

    def rows_ahead(self, entry: E) -> float:
        """Estimate how many rows would be served before a request that is about to come.

        Args:
            entry: in no line yet.

        Returns:
            All that wait if it goes to the end; else the requests ahead of it, times the mean of
            all that wait, since to add up theirs would cost a walk along the line.
        """
        ahead = bisect_right(self._places, self._place_of(entry))
        return self.rows * ahead / len(self._entries) if ahead else 0.0

    def in_order(self) -> Sequence[E]:
        """Return who waits, next first: a view that is good until the line changes."""
        return self._entries

    def take(self, positions: Sequence[int]) -> list[E]:
        """Take requests out of the line.

        Args:
            positions: where they stand in `in_order`, ascending, as the window chose them.

        Returns:
            Them, in the same order.
        """
        taken = [self._entries[position] for position in positions]
        if taken and positions[-1] == len(taken) - 1:
            del self._entries[: len(taken)], self._places[: len(taken)]
        else:
            for position in reversed(positions):
                del self._entries[position], self._places[position]
        for entry in taken:
            self._let_go(entry)
        return taken

    def remove(self, entry: E) -> bool:
        """Take out one request whose caller has left.

        Returns:
            Whether it was still waiting.
        """
        if self._by_ticket.get(entry.ticket) is not entry:
            return False
        index = bisect_left(self._places, self._place_of(entry))
        while self._entries[index] is not entry:
            index += 1
        del self._entries[index], self._places[index]
        self._let_go(entry)
        return True

    def expire(self, now_s: float) -> list[E]:
        """Take out the requests whose deadline is over, and return them, earliest first."""
        over: list[E] = []
        while self.next_deadline_s <= now_s and self._deadlines:
            entry = self._by_ticket[self._deadlines[0][1]]
            self.remove(entry)
            over.append(entry)
        return over

    @property
    def next_deadline_s(self) -> float:
        """The earliest deadline of those who wait, or infinity."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self._by_ticket:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else math.inf

    def _place_of(self, entry: E) -> float:
        return entry.arrived_s + level_of(entry.priority) * self._age_s

    def _let_go(self, entry: E) -> None:
        self.rows -= entry.rows
        self.bytes -= entry.bytes
        del self._by_ticket[entry.ticket]
        entry.ticket = 0

    def _add_deadline(self, entry: E) -> None:
        # Who is served leaves its deadline behind: to find it in the heap would cost a search.
        if len(self._deadlines) > 2 * len(self._by_ticket) + _STALE:
            self._deadlines = [item for item in self._deadlines if item[1] in self._by_ticket]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (entry.deadline_s, entry.ticket))
