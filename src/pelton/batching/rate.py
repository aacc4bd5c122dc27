"""How fast a model serves: when another try makes sense, and what cannot be in time any more."""

from __future__ import annotations

import math

MEMORY_S = 2.0
"""Seconds after which a run counts for a factor e less."""

MEMORY_RUNS = 4.0
"""Where runs are long it takes at least as long as so many of them."""

ENOUGH_RUNS = 3.0
"""So many runs must be remembered before anything is refused for what was measured."""

FORGET = 0.02
"""By so much of the difference each run draws the shortest run up towards its own length."""

HEADROOM = 0.8
"""The part of the time left that a prediction may use up; runs and arrivals are never even."""

SHARE_SERVED = 0.5
"""How much of what waits is served before a refused caller should come back.

The first free place would do for one of them, but all who were refused come back for it."""

SHORTEST_S = 0.05
LONGEST_S = 60.0
UNKNOWN_S = 1.0
"""What a refused caller is told at least, at most, and before anything has been measured."""


class ServiceRate:
    """Measures the rows per second that all instances of a model serve together while they work.

    Rows served and seconds worked are summed up, both decaying with time; the rate is their
    quotient. Idle time is left out, since nobody is refused while there is any: it would make the
    model look slow just when load sets in. Yet the sums decay in it, so that after a pause the
    first runs count for more than all before. Instances that work at the same time share their
    seconds: a run adds only the time since the end of the one reported before.

    Two rules follow from what was measured. They keep a model that gets more than it can serve
    busy with what can still be of use; served oldest first, a line that is longer than the
    deadlines allow would let through nothing but answers that come a little too late.

    * `in_time`: what the rows ahead of a request take at this rate, and a usual run for itself,
      must fit into `HEADROOM` of the time that it has left, else it is better refused at once.
    * `least_s`: what has less time left than the shortest run lately seen is better not started.
      The shortest, not the usual: a model whose runs vary may have a short one for it.

    Neither says no unless some runs have ended lately. So neither a fresh model nor one that has
    just been slow once (a cold start, a hang) refuses anything for it; and a wrong estimate cannot
    keep all work away, since it is forgotten soon after nothing runs any more.

    >>> rate = ServiceRate()
    >>> rate.learn(rows=20, started_s=100.0, ended_s=102.0)  # two instances
    >>> rate.learn(rows=20, started_s=100.0, ended_s=102.0)
    >>> rate.rows_per_s, rate.retry_after_s(waiting_rows=400)
    (20.0, 10.0)
    >>> rate.in_time(rows_ahead=1000, left_s=0.1, now_s=102.0)  # too few runs to tell
    True
    >>> for end_s in range(104, 124, 2):
    ...     rate.learn(rows=40, started_s=end_s - 2.0, ended_s=end_s)
    >>> [rate.in_time(rows, left_s=10.0, now_s=122.0) for rows in (119, 121)]  # 6 s and a run
    [True, False]
    >>> rate.least_s(now_s=122.0), rate.least_s(now_s=222.0)
    (2.0, 0.0)
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._worked_s = 0.0
        self._runs = 0.0
        self._runs_s = 0.0
        self._shortest_s = math.inf  # before the first run
        self._last_end_s = -math.inf

    def learn(self, rows: int, started_s: float, ended_s: float) -> None:
        """Take in a run that has ended; runs come in the order of their ends.

        Args:
            rows: rows of the run.
            started_s: when it began, on a monotonic clock.
            ended_s: when it ended, on the same clock.
        """
        memory_s = self._memory_s
        run_s = ended_s - started_s
        worked_s = max(0.0, ended_s - max(started_s, self._last_end_s))
        kept = math.exp(-(ended_s - self._last_end_s) / memory_s)
        # A pause of the machine counts for no more than what is remembered anyway.
        weight = min(1.0, memory_s / worked_s) if worked_s else 1.0
        self._last_end_s = ended_s
        self._rows = self._rows * kept + rows * weight
        self._worked_s = self._worked_s * kept + worked_s * weight
        self._runs = self._runs * kept + 1.0
        self._runs_s = self._runs_s * kept + run_s
        longer_s = max(0.0, run_s - self._shortest_s)
        self._shortest_s = min(run_s, self._shortest_s + FORGET * longer_s)

    @property
    def rows_per_s(self) -> float | None:
        """The measured rate; None before anything has been measured."""
        return self._rows / self._worked_s if self._worked_s > 0.0 else None

    def in_time(self, rows_ahead: float, left_s: float, now_s: float) -> bool:
        """Predict whether a request that has to wait would be answered in time.

        Args:
            rows_ahead: rows that are served before it, those that run already left out.
            left_s: the time that it has left.
            now_s: the time.

        Returns:
            Whether it would; True where nothing has been measured lately.
        """
        rows_per_s = self.rows_per_s
        if not rows_per_s or not self._is_fresh(now_s):
            return True
        return rows_ahead / rows_per_s + self._runs_s / self._runs <= HEADROOM * left_s

    def least_s(self, now_s: float) -> float:
        """Return the time that a request needs to have left for a run to make sense.

        Args:
            now_s: the time.

        Returns:
            Seconds; 0 where nothing has been measured lately.
        """
        return self._shortest_s if self._is_fresh(now_s) else 0.0

    def retry_after_s(self, waiting_rows: int) -> float:
        """Say when a caller who is refused because too much waits should try again.

        Args:
            waiting_rows: rows that wait now.

        Returns:
            Seconds until half of them are served at the measured rate, from 0.05 to 60.
        """
        rows_per_s = self.rows_per_s
        if not rows_per_s:
            return UNKNOWN_S
        return min(max(SHARE_SERVED * waiting_rows / rows_per_s, SHORTEST_S), LONGEST_S)

    @property
    def _memory_s(self) -> float:
        usual_s = self._runs_s / self._runs if self._runs else 0.0
        return max(MEMORY_S, MEMORY_RUNS * usual_s)

    def _is_fresh(self, now_s: float) -> bool:
        return self._runs >= ENOUGH_RUNS and now_s - self._last_end_s <= self._memory_s
