"""Who was given which version: the first time counts, as later ones say nothing new."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, select

from pelton.records import Exposure
from pelton.state.column_types import keepable
from pelton.state.database import Database
from pelton.state.inserting import insert
from pelton.state.tables import exposures

MAX_UNIT_CHARACTERS = 256
"""A longer unit is kept as its hash, since an index has no room for it."""

_PORTION_ROWS = 20_000
"""As many are deleted in one transaction, which takes a fraction of a second."""


class ExposureStore:
    """The first exposure of each unit in each experiment: on a route, with a salt.

    An exposure that does not count, since the version was named by the caller or the unit did not
    take part yet, is kept beside a later one that does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, seen: Sequence[Exposure]) -> None:
        """Keep those whose unit is new on its route with its salt.

        Harmless to repeat.

        Raises:
            Unavailable: the database is busy, away or full.
        """
        rows = [_values(exposure) for exposure in seen]
        # Two servers that insert the same units in another order would wait for each other.
        rows.sort(key=lambda row: (row["route"], row["salt"], row["unit"]))

        def work(connection: Connection) -> None:
            connection.execute(insert(connection, exposures).on_conflict_do_nothing(), rows)

        if rows:
            self._database.write(work)

    def list(self, route: str, since_s: float = 0.0, limit: int = 10_000) -> list[Exposure]:
        """Return the exposures of a route that are no older than a time, the oldest first.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = (
            select(exposures)
            .where(exposures.c.route == route, exposures.c.at_s >= since_s)
            .order_by(exposures.c.at_s, exposures.c.unit)
            .limit(limit)
        )
        return self._database.read(
            lambda c: [Exposure(**row._asdict()) for row in c.execute(query)]
        )

    def count(self, route: str, since_s: float = 0.0, salt: str | None = None) -> dict[str, int]:
        """Return how many units that take part each arm of a route was given.

        Forced exposures do not count.

        Args:
            route: the route's name.
            since_s: only those from then on, seconds since 1970.
            salt: only those of the split with this salt; None for those of all.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = (
            select(exposures.c.arm, func.count())
            .where(
                exposures.c.route == route,
                exposures.c.at_s >= since_s,
                exposures.c.enrolled,
                ~exposures.c.forced,
            )
            .group_by(exposures.c.arm)
        )
        if salt is not None:
            query = query.where(exposures.c.salt == salt)
        return self._database.read(lambda c: {arm: int(n) for arm, n in c.execute(query)})

    def delete_older(self, than_s: float) -> int:
        """Delete exposures from before a time, and return how many there were.

        Raises:
            Unavailable: the database is busy or away.
        """
        deleted = 0
        while True:
            portion = self._database.write(lambda c: _delete_some(c, than_s))
            deleted += portion
            if portion < _PORTION_ROWS:
                return deleted


def _delete_some(connection: Connection, than_s: float) -> int:
    """Delete the oldest, about so many that no other server has to wait for it."""
    at_s = exposures.c.at_s
    oldest = select(at_s).where(at_s < than_s).order_by(at_s)
    last_s = connection.execute(oldest.offset(_PORTION_ROWS - 1).limit(1)).scalar()
    some = at_s < than_s if last_s is None else at_s <= last_s
    return connection.execute(delete(exposures).where(some)).rowcount


def _values(exposure: Exposure) -> dict[str, Any]:
    return {**asdict(exposure), "unit": _kept_unit(exposure.unit)}


def _kept_unit(unit: str) -> str:
    """Return a unit, which strangers choose, in a form that every database can keep."""
    if len(unit) <= MAX_UNIT_CHARACTERS and keepable(unit):
        return unit
    return "sha256:" + hashlib.sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()
