"""Traffic policies by the name of their route, as the plain values that they are written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from pelton.errors import Conflict
from pelton.records import Change
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert
from pelton.state.tables import routes

_SUBJECT = "routes"


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A route's policy as it is kept.

    Attributes:
        name: the route's name.
        policy: plain values.
        revision: grows with each change, also when the route was deleted and made again.
    """

    name: str
    policy: Mapping[str, Any]
    revision: int


class RouteStore:
    """The policies of all routes.

    Whoever changes one names the revision that the change is based on, so that nobody undoes by
    mistake what another one did meanwhile, and the audit trail's `before` is true.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def set(
        self,
        name: str,
        policy: Mapping[str, Any],
        expected_revision: int | None,
        change: Change,
    ) -> StoredPolicy:
        """Make a route or change its policy.

        Args:
            name: the route's name.
            policy: plain values.
            expected_revision: that of the policy which is replaced; None for a new route.
            change: for the audit trail.

        Returns:
            The policy as it is kept now, with its new revision.

        Raises:
            Conflict: the route has another revision, is gone, or is there already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> StoredPolicy:
            revision = generations.bump(connection, _SUBJECT)
            _expect(connection, name, expected_revision)
            kept = {"policy": policy, "revision": revision}
            row = insert(connection, routes).values(name=name, **kept)
            connection.execute(row.on_conflict_do_update(index_elements=[routes.c.name], set_=kept))
            return StoredPolicy(name, policy, revision)

        return self._audit.along(change, work)

    def delete(self, name: str, expected_revision: int, change: Change) -> None:
        """Delete a route.

        Args:
            name: the route's name.
            expected_revision: that of the policy which is deleted.
            change: for the audit trail.

        Raises:
            Conflict: the route has another revision, or is gone.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, _SUBJECT)
            _expect(connection, name, expected_revision)
            connection.execute(delete(routes).where(routes.c.name == name))

        self._audit.along(change, work)

    def find(self, name: str) -> StoredPolicy | None:
        """Return a route's policy; None where there is no such route.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(routes).where(routes.c.name == name)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else StoredPolicy(**row._asdict())

    def all(self) -> dict[str, StoredPolicy]:
        """Return the policies of all routes by their names.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(routes).order_by(routes.c.name)
        rows = self._database.read(lambda c: list(c.execute(query)))
        return {row.name: StoredPolicy(**row._asdict()) for row in rows}

    def generation(self) -> int:
        """Return a number that grows with each change of a route, by whatever server.

        Read it before the routes: then these are at least as new.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(lambda c: generations.current(c, _SUBJECT))


def _expect(connection: Connection, name: str, expected: int | None) -> None:
    """Refuse a change that is based on another revision than the one that is kept."""
    found = connection.execute(select(routes.c.revision).where(routes.c.name == name)).scalar()
    if found == expected:
        return
    if found is None:
        raise Conflict(f"the route {name[:80]!r} is not there any more")
    if expected is None:
        raise Conflict(f"there is a route {name[:80]!r} already, at revision {found}")
    raise Conflict(
        f"the route {name[:80]!r} was changed meanwhile: it is at revision {found}, "
        f"not {expected}; look at it and try again"
    )
