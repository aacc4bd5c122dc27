"""Counts requests and their times since the start, for `GET /stats`."""

from __future__ import annotations

from dataclasses import dataclass

from pelton.clock import Clock
from pelton.messages import Observed


@dataclass(slots=True)
class Totals:
    """What is known of one version, of one model, or of all.

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


NO_VERSION = 0
"""The row of a name for what no version of it has to answer for, and of versions that are gone."""


class Counters:
    """Eats `Observed` records and answers with totals.

    Requests for names that are not served count in the whole but get no row of their own:
    names come from strangers, and a row for each would grow without bound. Versions come from the
    server itself, so one that has answered has a row until it is forgotten.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = clock()
        self._strangers = Totals()
        self._rows: dict[tuple[str, int], Totals] = {}

    def know(self, name: str) -> None:
        """Give the name of a served model, or of a route, a row of its own."""
        self._rows.setdefault((name, NO_VERSION), Totals())

    def forget(self, model: str, version: int) -> None:
        """Take away the row of a version that is unloaded; what it did counts for its model."""
        gone = self._rows.pop((model, version), None)
        if gone is not None:
            key = (model, NO_VERSION)
            self._rows[key] = self._rows.get(key, Totals()) + gone

    def observe(self, observed: Observed) -> None:
        """Count one request."""
        row = self._rows.get((observed.model, observed.version))
        if row is None:
            row = self._row_of(observed.model, observed.version)
        row.add(observed)

    def _row_of(self, name: str, version: int) -> Totals:
        if version == NO_VERSION:
            return self._strangers
        return self._rows.setdefault((name, version), Totals())

    def uptime_s(self) -> float:
        """Return seconds since the counters were made."""
        return self._clock() - self._started_s

    def totals(self) -> Totals:
        """Return the totals over all models."""
        return sum(self._rows.values(), self._strangers)

    def by_model(self) -> dict[str, Totals]:
        """Return the totals of each served model, and of each route what it refused."""
        rows: dict[str, Totals] = {}
        for (name, _), row in self._rows.items():
            rows[name] = rows.get(name, Totals()) + row
        return rows

    def by_version(self, model: str) -> dict[int, Totals]:
        """Return the totals of each version of a model that has answered, ascending."""
        return {
            version: row + Totals()
            for (name, version), row in sorted(self._rows.items(), key=lambda item: item[0])
            if name == model and version != NO_VERSION
        }
