"""How several instances share what waits, tuned by what the runs so far have cost.

An instance that is free takes its share of the rows that wait, as `window` says. Two things are
learned here that change how large this share is:

* Where a run of two rows takes hardly less than two runs of one, the first row would wait for the
  second's sake alone: then each instance has a row to spare before runs are shared. While all runs
  have the same size, what was learned of it before stands.
* Where no instance is ever idle, the model gets all it can do, and those who wait do so longer
  than a run takes. Then larger runs cost nobody anything, since they all move up as quickly as
  rows are served; and of most models more rows are served the larger the runs are. So the share
  is one of all rows that are here, waiting or running.
"""

from __future__ import annotations

from dataclasses import replace

from pelton.batching.cost import RunCost
from pelton.batching.window import WindowPolicy

LITTLE_GAIN = 0.2
"""A model of whose run for one row less than this part is no row's gains little by batches."""

COST_RUNS = 20
"""Runs to be seen before anything is made of what they cost."""

SATURATED = 0.95
RELIEVED = 0.85
"""The part of their time that instances work from which on they count as never idle, and below
which they no longer do."""

RUNS = 100
"""Over the last so many runs or so: until these show a burst, it is over."""

LONGEST_PAUSE = 4.0
"""A pause between two runs counts for at most so many times a run: whoever comes back after one
with as much as before is served as before, and with less that shows in the runs that follow."""


class Sharing:
    """Learns from the runs of one model how its instances share what waits.

    >>> policy = WindowPolicy(max_rows=8, instances=2)
    >>> sharing = Sharing()
    >>> for run in range(1000):  # each of two instances runs a row in 10 ms, again and again
    ...     policy = sharing.learn(policy, 1, run * 0.005, run * 0.005 + 0.01)
    >>> policy.spared_rows, policy.saturated
    (0, True)
    """

    def __init__(self) -> None:
        self._cost = RunCost()
        self._run_s = 0.0
        self._between_s = 0.0
        self._last_end_s: float | None = None

    def learn(
        self, policy: WindowPolicy, rows: int, begun_s: float, ended_s: float
    ) -> WindowPolicy:
        """Take in a run that has ended; runs come in the order of their ends.

        Args:
            policy: by which the batch was chosen.
            rows: the batch's, at least 1.
            begun_s: when its run began, on a monotonic clock.
            ended_s: when it ended.

        Returns:
            The policy to go on with.
        """
        seconds = ended_s - begun_s
        self._cost.learn(rows, seconds)
        saturated = self._is_saturated(policy, seconds, ended_s)
        spared_rows = policy.spared_rows
        if self._cost.runs >= COST_RUNS and self._cost.sizes_differ:
            spared_rows = policy.instances if self._cost.fixed_share() < LITTLE_GAIN else 0
        if spared_rows == policy.spared_rows and saturated == policy.saturated:
            return policy
        return replace(policy, spared_rows=spared_rows, saturated=saturated)

    def _is_saturated(self, policy: WindowPolicy, seconds: float, ended_s: float) -> bool:
        last_end_s, self._last_end_s = self._last_end_s, ended_s
        if last_end_s is None:
            return False
        between_s = min(ended_s - last_end_s, LONGEST_PAUSE * max(seconds, self._run_s))
        self._run_s += (seconds - self._run_s) / RUNS
        self._between_s += (between_s - self._between_s) / RUNS
        if self._cost.runs < RUNS:
            return False
        least = RELIEVED if policy.saturated else SATURATED
        return self._run_s >= least * self._between_s * policy.instances
