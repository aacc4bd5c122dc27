"""Counts requests and their times since the start, for `GET /stats`."""

from __future__ import annotations

from dataclasses import dataclass

from pelton.clock import Clock
from pelton.messages import Observed


@dataclass(slots=True)
class Totals:
    """What is known of one model, or of all.

    Attributes:
        succeeded: requests answered.
        failed: requests refused or failed, whatever the reason.
        compute_s: seconds that the model ran for the answered ones.
        queue_s: seconds that they waited before.
    """

    succeeded: int = 0
    failed: int = 0
    compute_s: float = 0.0
    queue_s: float = 0.0

    def add(self, observed: Observed) -> None:
        """Count one request."""
        if observed.error is not None:
            self.failed += 1
            return
        self.succeeded += 1
        timing = observed.timing
        self.compute_s += timing.compute_s
        self.queue_s += timing.queue_s

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.compute_s + other.compute_s,
            self.queue_s + other.queue_s,
        )


class Counters:
    """Eats `Observed` records and answers with totals.

    Requests for names that are not served count in the whole but get no row of their own:
    names come from strangers, and a row for each would grow without bound.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = clock()
        self._strangers = Totals()
        self._by_model: dict[str, Totals] = {}

    def know(self, model: str) -> None:
        """Give a served model a row of its own."""
        self._by_model.setdefault(model, Totals())

    def observe(self, observed: Observed) -> None:
        """Count one request."""
        self._by_model.get(observed.model, self._strangers).add(observed)

    def uptime_s(self) -> float:
        """Return seconds since the counters were made."""
        return self._clock() - self._started_s

    def totals(self) -> Totals:
        """Return the totals over all models."""
        return sum(self._by_model.values(), self._strangers)

    def by_model(self) -> dict[str, Totals]:
        """Return the totals of each served model."""
        return dict(self._by_model)
