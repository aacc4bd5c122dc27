"""Remembers which signatures have been used, so that none is taken twice.

A nonce may be forgotten only when its signature could not be taken any more. That is decided by
a wall clock, and wall clocks are set: put forward, it would have everything forgotten, and put
back, it would make good again what was forgotten. So what is forgotten leaves a trace: its time.
Nothing that was signed at that time or earlier is taken again, whatever the clock says.
"""

from __future__ import annotations

import enum
import heapq
import threading

CAPACITY = 100_000
"""Nonces that are remembered at most, some 30 MB; beyond that new ones are refused."""


class Use(enum.Enum):
    """What became of a nonce."""

    FRESH = "fresh"
    USED = "was used before"
    TOO_OLD = "was signed before the oldest time that is remembered"
    FULL = "there is no room to remember it"


class Nonces:
    """The nonces of a window of time; threads may share it."""

    def __init__(self, floor_s: float, capacity: int = CAPACITY) -> None:
        """Begin with nothing remembered.

        Args:
            floor_s: nothing that was signed then or earlier is taken, in seconds since 1970: a
                server that has just started does not know what was used before.
            capacity: how many nonces may be remembered.
        """
        self._lock = threading.Lock()
        self._floor_s = floor_s
        self._capacity = capacity
        self._used: set[tuple[str, str]] = set()
        self._by_time: list[tuple[int, tuple[str, str]]] = []

    @property
    def floor_s(self) -> float:
        """Nothing that was signed at this time or earlier is taken; it never falls."""
        return self._floor_s

    def __len__(self) -> int:
        return len(self._used)

    def use(self, key: str, nonce: str, time_s: int, oldest_s: float) -> Use:
        """Use a nonce up.

        Args:
            key: id of the signing key, whose own nonces are meant.
            nonce: as it was signed.
            time_s: when, in seconds since 1970.
            oldest_s: what was signed before that would not be taken now; it may be forgotten.

        Returns:
            `FRESH`, or why the request has to be refused; then nothing was remembered.
        """
        entry = (key, nonce)
        with self._lock:
            self._forget(oldest_s)
            if time_s <= self._floor_s:
                return Use.TOO_OLD
            if entry in self._used:
                return Use.USED
            if len(self._used) >= self._capacity:
                return Use.FULL
            self._used.add(entry)
            heapq.heappush(self._by_time, (time_s, entry))
            return Use.FRESH

    def _forget(self, oldest_s: float) -> None:
        while self._by_time and self._by_time[0][0] < oldest_s:
            time_s, entry = heapq.heappop(self._by_time)
            self._used.remove(entry)
            self._floor_s = max(self._floor_s, time_s)
