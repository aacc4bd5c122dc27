"""When requests are due: at once when one is answered, or at moments drawn beforehand."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

NEVER_NS = 2**62


class Arrivals(Protocol):
    """Tells the generator what to send; all times are of one monotonic clock, nanoseconds."""

    def take(self, now_ns: int) -> int | None:
        """Return when a request was due that goes out now, or None if none is due."""

    def next_ns(self) -> int:
        """Return when the next one is due; `NEVER_NS` where an answer has to come first."""

    def over(self, now_ns: int) -> bool:
        """Whether no further one will come."""


class Closed:
    """Each connection asks again as soon as it has its answer, until the time is over."""

    def __init__(self, end_ns: int) -> None:
        self._end_ns = end_ns

    def take(self, now_ns: int) -> int | None:
        """Due is always now: a closed loop never asks more than it gets answers."""
        return now_ns if now_ns < self._end_ns else None

    def next_ns(self) -> int:
        """Return `NEVER_NS`."""
        return NEVER_NS

    def over(self, now_ns: int) -> bool:
        """Whether the time is over."""
        return now_ns >= self._end_ns


class Poisson:
    """Independent callers: exponential gaps, whatever becomes of the answers.

    A request that finds no free connection, or a generator that is late, goes out later; its
    latency counts from the moment when it was due all the same, so that a slow server cannot hide
    the requests that it kept from being sent.
    """

    def __init__(self, start_ns: int, phases: list[tuple[float, float]], seed: int) -> None:
        """Draw every moment.

        Args:
            start_ns: when the first phase begins.
            phases: (requests per second, seconds), one after another.
            seed: of the gaps.
        """
        random = np.random.default_rng(seed)
        pieces, begin_s = [], 0.0
        for rate, seconds in phases:
            count = math.ceil(rate * seconds + 6 * math.sqrt(rate * seconds) + 10)
            moments_s = np.cumsum(random.exponential(1 / rate, count))
            pieces.append(begin_s + moments_s[moments_s < seconds])
            begin_s += seconds
        moments_ns = start_ns + np.concatenate(pieces) * 1e9
        self._due_ns: list[int] = [*moments_ns.astype(np.int64).tolist(), NEVER_NS]
        self._next = 0

    def take(self, now_ns: int) -> int | None:
        """Return the next moment, if it has come."""
        due_ns = self._due_ns[self._next]
        if due_ns > now_ns:
            return None
        self._next += 1
        return due_ns

    def next_ns(self) -> int:
        """Return the next moment."""
        return self._due_ns[self._next]

    def over(self, now_ns: int) -> bool:
        """Whether all have been taken."""
        return self._due_ns[self._next] == NEVER_NS
