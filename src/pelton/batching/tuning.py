"""Tunes how many rows a batch may have, so that answers come within a target time."""

from __future__ import annotations

import math

from pelton.batching.cost import FORGET, RunCost

QUANTILE = 0.99
OUTLIER = 4.0
"""A run counts at most as so many times what it was expected to take, or as half the target."""

COLD_RUNS = 10
"""One of the first runs that takes less than expected by `OUTLIER` shows that those before it
were cold: they are forgotten."""

NOISE_SHARE = 0.25
"""The part of the target that noise may use up at most: no bound would cure more of it."""

_TAIL = 5.0
"""The quantile is at most so many mean residuals, as for exponential noise: so that it comes down
with them after a time of noise, which by itself would take it thousands of runs."""


class BatchBound:
    """Finds the largest bound that keeps 99 of 100 answers within a target.

    Model: a run of `n` rows takes `a + b n` seconds, `a, b >= 0`, and a residual. `a` and `b`
    are fitted as in `RunCost`; `q` is the 0.99 quantile of the residuals, followed by stochastic
    approximation (Robbins and Monro, Annals of Mathematical Statistics 22(3), 1951). `L` is the
    most rows that waited lately when an instance became free. Who comes last of them, just after
    a run has begun, waits for that run, and then for `L / n` runs or for its own, each at its slow
    end:

        p99(n) = (1 + max(1, L / n)) (a + b n + q)

    The bound is the largest `n` with `p99(n) <= target`, or where there is none, the `n` for
    which `p99` is least: when too much comes, large runs are what gets everybody served. Time
    spent waiting on purpose is no part of this: hand in the target less `max_delay_s`.

    What keeps it from going astray:

    * The bound starts at 1 and is at most twice the largest of the recent runs, so that the line
      is never drawn far beyond what has been measured; and at one step it falls at most by half.
    * While all runs have the same size, nothing tells `a` from `b`: `b` then fades to 0, and the
      rule above makes of this a careful trial of larger runs, which tells them apart.
    * A run far beyond expectation (a pause of the machine) counts for a bounded time, and cold
      runs at the start are forgotten once a warm one is seen.
    * Noise takes `NOISE_SHARE` of the target at most; else a noisy model would lose its batches,
      and with them its throughput, for nothing.

    >>> bound = BatchBound(max_rows=64, target_s=0.010)
    >>> for _ in range(50):
    ...     bound.learn(bound.rows, 0.001 + 0.0001 * bound.rows, waiting_rows=0)
    >>> 37 <= bound.rows <= 40  # 2 (1 ms + 40 * 0.1 ms) = 10 ms
    True
    """

    def __init__(self, max_rows: int, target_s: float) -> None:
        """Start before anything has been measured.

        Args:
            max_rows: no bound is larger.
            target_s: within which time 99 of 100 requests are to be answered.
        """
        self._max_rows = max_rows
        self._target_s = target_s
        self._rows = 1
        self._runs = 0
        self._cold_runs = 0
        self._largest = 1.0
        self._longest_line = 0.0
        self._cost = RunCost()
        self._spread_s = 0.0
        self._late_s = 0.0

    @property
    def rows(self) -> int:
        """The bound: most rows of a batch."""
        return self._rows

    def learn(self, rows: int, seconds: float, waiting_rows: int) -> None:
        """Take in a run that has ended.

        Args:
            rows: how many it had, at least 1.
            seconds: how long it took.
            waiting_rows: how many rows wait now that its instance is free.
        """
        expected_s = self._cost.expected_s(rows)
        if self._runs <= COLD_RUNS and OUTLIER * seconds < expected_s:
            self._cold_runs, self._spread_s, self._late_s = self._runs, 0.0, 0.0
        self._runs += 1
        if self._runs > self._cold_runs + 1:
            seconds = min(seconds, max(OUTLIER * expected_s, self._target_s / 2.0))
            self._learn_residual(seconds - expected_s)
        self._cost.learn(rows, seconds, self._weight())
        self._largest = max(float(rows), self._largest * (1.0 - FORGET))
        self._longest_line = max(float(waiting_rows), self._longest_line * (1.0 - FORGET))
        limit = min(self._max_rows, 2.0 * self._largest)
        self._rows = max(1, self._rows // 2, int(min(limit, self._best_rows())))

    def _weight(self) -> float:
        # The first run, or the first after a cold one, replaces all that was known.
        return max(FORGET, 1.0 / (self._runs - self._cold_runs))

    def _learn_residual(self, residual_s: float) -> None:
        weight = self._weight()
        self._spread_s += weight * (abs(residual_s) - self._spread_s)
        beyond = 1.0 if residual_s > self._late_s else 0.0
        late_s = self._late_s + self._spread_s * (QUANTILE - 1.0 + beyond)
        self._late_s = min(late_s, _TAIL * self._spread_s)

    def _best_rows(self) -> float:
        """Return the bound that `p99` asks for, before it is kept within its limits."""
        target_s, line = self._target_s, self._longest_line
        slope_s = self._cost.slope_s()
        late_s = min(max(self._late_s, 0.0), NOISE_SHARE * target_s / 2.0)
        fixed_s = self._cost.expected_s(0) + late_s
        if slope_s <= 0.0:
            return math.inf if 2.0 * fixed_s <= target_s else line
        within = (target_s / 2.0 - fixed_s) / slope_s
        if within >= line:
            return within
        # With more waiting than a run takes, p99 = a + b L + b n + a L / n, least at `least`.
        least = math.sqrt(max(fixed_s * line / slope_s, 0.0))
        if least >= line:
            return line
        spare_s = target_s - fixed_s - slope_s * line
        root = spare_s * spare_s - 4.0 * slope_s * fixed_s * line
        if spare_s <= 0.0 or root < 0.0:
            return least
        return (spare_s + math.sqrt(root)) / (2.0 * slope_s)
