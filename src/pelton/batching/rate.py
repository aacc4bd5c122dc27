"""How many rows a model serves per second, and so when another try makes sense."""

from __future__ import annotations

import math

MEMORY_S = 5.0
"""Seconds of work after which a run counts for a factor e less."""

SHARE_SERVED = 0.5
"""How much of what waits is served before a refused caller should come back.

The first free place would do for one of them, but all who were refused come back for it."""

SHORTEST_S = 0.05
LONGEST_S = 60.0
UNKNOWN_S = 1.0
"""What a refused caller is told at least, at most, and before anything has been measured."""


class ServiceRate:
    """Measures the rows per second that all instances of a model serve together while they work.

    Rows served and seconds worked are summed up, both decaying with the work done since; the
    rate is their quotient. Idle time is left out, since nobody is refused while there is any: it
    would make the model look slow just when load sets in. Instances that work at the same time
    share their seconds: a run adds only the time since the end of the one reported before.

    >>> rate = ServiceRate()
    >>> rate.learn(rows=20, started_s=100.0, ended_s=102.0)  # two instances
    >>> rate.learn(rows=20, started_s=100.0, ended_s=102.0)
    >>> rate.rows_per_s, rate.retry_after_s(waiting_rows=400)
    (20.0, 10.0)
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._worked_s = 0.0
        self._last_end_s = -math.inf

    def learn(self, rows: int, started_s: float, ended_s: float) -> None:
        """Take in a run that has ended; runs come in the order of their ends.

        Args:
            rows: rows of the run.
            started_s: when it began, on a monotonic clock.
            ended_s: when it ended, on the same clock.
        """
        worked_s = max(0.0, ended_s - max(started_s, self._last_end_s))
        self._last_end_s = max(self._last_end_s, ended_s)
        kept = math.exp(-worked_s / MEMORY_S)
        self._rows = self._rows * kept + rows
        self._worked_s = self._worked_s * kept + worked_s

    @property
    def rows_per_s(self) -> float | None:
        """The measured rate; None before anything has been measured."""
        return self._rows / self._worked_s if self._worked_s > 0.0 else None

    def retry_after_s(self, waiting_rows: int) -> float:
        """Say when a caller who finds the line full should try again.

        Args:
            waiting_rows: rows that wait now.

        Returns:
            Seconds until half of them are served at the measured rate, from 0.05 to 60.
        """
        rows_per_s = self.rows_per_s
        if not rows_per_s:
            return UNKNOWN_S
        return min(max(SHARE_SERVED * waiting_rows / rows_per_s, SHORTEST_S), LONGEST_S)
