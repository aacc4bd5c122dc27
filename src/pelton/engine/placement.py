"""Decides whether a model runs on the event loop or in a thread, from measured times.

A hop to a thread and back costs tens of microseconds and a fight for the interpreter lock. For
a model that answers faster than that, running it right on the loop is quicker for everybody,
the other connections included. Times depend on how much data comes in, so they are kept for
each power of two of input bytes.
"""

from __future__ import annotations

from collections import deque
from statistics import median

ENTER_S = 200e-6
"""Run on the loop when the median of the last runs is below this many seconds."""

LEAVE_S = 400e-6
"""Go back to threads when it is above this; the gap keeps a borderline model from flapping."""

SAMPLES = 5
"""Runs that the median is taken over, and that must be seen before anything is decided."""


class RunTimes:
    """How long the last runs took on inputs of about one size, and where the next one belongs.

    Attributes:
        on_loop: whether runs are known to be quick enough for the loop.
    """

    __slots__ = ("_recent", "on_loop")

    def __init__(self) -> None:
        self.on_loop = False
        self._recent: deque[float] = deque(maxlen=SAMPLES)

    def learn(self, seconds: float) -> None:
        """Take in how long a run took."""
        recent = self._recent
        recent.append(seconds)
        if self.on_loop:
            # A single slow run says nothing; only then is the median worth its cost.
            if seconds > LEAVE_S and median(recent) > LEAVE_S:
                self.on_loop = False
        elif len(recent) == SAMPLES and median(recent) < ENTER_S:
            self.on_loop = True


class Placement:
    """Remembers how long a model took, per size of its inputs."""

    def __init__(self) -> None:
        self._by_size: dict[int, RunTimes] = {}

    def of(self, input_bytes: int) -> RunTimes:
        """Return the times of runs on about so many bytes."""
        size = input_bytes.bit_length()
        times = self._by_size.get(size)
        if times is None:
            times = self._by_size[size] = RunTimes()
        return times
