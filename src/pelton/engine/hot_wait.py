"""Decides whether the event loop waits for a run right where it has begun it.

To put the loop to sleep and to wake it when a worker process answers costs more than the answer
itself where the model is quick. So while it is known to be quick the loop looks out for the
answer instead. Nothing else happens meanwhile; so it does that only where nothing else would: every
now and then it goes the usual way, and looks whether another request came during the run.
"""

from __future__ import annotations

import math

from pelton.engine.placement import ENTER_S, RunTimes

HOT_S = 1.5 * ENTER_S
"""How long the loop waits in one place, at the most: for a quick model, and the way to it."""

QUIET_LOOKS = 4
"""Runs in a row during which nobody came, before the loop begins to wait in one place."""

HOT_RUNS = 16
"""After so many it has another look."""


class HotWait:
    """Follows the runs of one model."""

    def __init__(self) -> None:
        self._times = RunTimes()
        self._quiet = 0
        self._left = 0

    def patience_s(self) -> float:
        """Return how long the loop waits for the run that begins now; 0 for not at all."""
        if self._quiet < QUIET_LOOKS or not self._times.on_loop:
            return 0.0
        if not self._left:
            self._left = HOT_RUNS
            return 0.0
        self._left -= 1
        return HOT_S

    def learn(self, patience_s: float, model_s: float, others_came: bool) -> None:
        """Take in a run that has ended.

        Args:
            patience_s: what `patience_s` said when it began.
            model_s: how long the model itself took; 0 where that is not known.
            others_came: whether another request for the model came meanwhile, as far as could be
                seen.
        """
        self._times.learn(model_s or math.inf)
        if not patience_s:
            self._quiet = 0 if others_came else self._quiet + 1
