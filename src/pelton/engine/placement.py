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


class Placement:
    """Remembers how long a model took, per size of its inputs."""

    def __init__(self) -> None:
        self._recent: dict[int, deque[float]] = {}
        self._on_loop: set[int] = set()

    def on_loop(self, input_bytes: int) -> bool:
        """Return whether a run on so many bytes is known to be quick enough for the loop."""
        return input_bytes.bit_length() in self._on_loop

    def learn(self, input_bytes: int, seconds: float) -> None:
        """Take in how long a run took."""
        size = input_bytes.bit_length()
        recent = self._recent.get(size)
        if recent is None:
            recent = self._recent[size] = deque(maxlen=SAMPLES)
        recent.append(seconds)
        if size in self._on_loop:
            # A single slow run says nothing; only then is the median worth its cost.
            if seconds > LEAVE_S and median(recent) > LEAVE_S:
                self._on_loop.discard(size)
        elif len(recent) == SAMPLES and median(recent) < ENTER_S:
            self._on_loop.add(size)
