"""What a run costs, as the runs that were seen tell: a part by itself, and a part for each row."""

from __future__ import annotations

FORGET = 0.02
"""Weight of the newest run: the last 50 or so count, and a model that changes is followed."""

_FLAT = 1e-4
"""Runs whose sizes vary less than this (variance over squared mean) tell little of the slope."""

_TELLING = 100 * _FLAT
"""Runs whose sizes vary by more than this tell the slope well enough to act on it."""


class RunCost:
    """Fits `a + b n` seconds, `a, b >= 0`, to runs of `n` rows.

    By least squares with exponentially falling weights, from running means, variance and covariance
    (Finch, "Incremental calculation of weighted mean and variance", 2009). While all runs have the
    same size nothing tells `a` from `b`: `b` then fades to 0.

    Attributes:
        runs: how many were learned from.

    >>> cost = RunCost()
    >>> for rows in [1, 2, 4, 1, 3, 2] * 20:
    ...     cost.learn(rows, 0.001 + 0.004 * rows)
    >>> round(cost.slope_s(), 4), round(cost.expected_s(10), 3), round(cost.fixed_share(), 2)
    (0.004, 0.041, 0.2)
    """

    def __init__(self) -> None:
        self.runs = 0
        self._mean_rows = 1.0
        self._mean_s = 0.0
        self._variance = 0.0
        self._covariance = 0.0

    def learn(self, rows: int, seconds: float, weight: float | None = None) -> None:
        """Take in a run.

        Args:
            rows: how many it had, at least 1.
            seconds: how long it took.
            weight: between 0 and 1; 1 forgets all runs before it. By default every one of the
                first runs counts alike, and then the newest for `FORGET`.
        """
        self.runs += 1
        if weight is None:
            weight = max(FORGET, 1.0 / self.runs)
        more_rows, more_s = rows - self._mean_rows, seconds - self._mean_s
        self._mean_rows += weight * more_rows
        self._mean_s += weight * more_s
        self._variance = (1.0 - weight) * (self._variance + weight * more_rows * more_rows)
        self._covariance = (1.0 - weight) * (self._covariance + weight * more_rows * more_s)

    @property
    def sizes_differ(self) -> bool:
        """Whether runs of more than one size were seen lately, so that `b` is known."""
        return self._variance > _TELLING * self._mean_rows * self._mean_rows

    def slope_s(self) -> float:
        """Return `b`, between 0 and what a line through the origin would have."""
        steepest_s = self._mean_s / self._mean_rows
        flat = _FLAT * self._mean_rows * self._mean_rows
        return min(max(self._covariance / (self._variance + flat), 0.0), steepest_s)

    def expected_s(self, rows: float) -> float:
        """Return how long a run of so many rows is expected to take."""
        return self._mean_s + self.slope_s() * (rows - self._mean_rows)

    def fixed_share(self) -> float:
        """Return which part of a run of one row is no row's: `a / (a + b)`; 1 before any run."""
        whole_s = self.expected_s(1)
        return max(self.expected_s(0), 0.0) / whole_s if whole_s > 0.0 else 1.0
