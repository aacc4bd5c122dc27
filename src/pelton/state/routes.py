"""Traffic policies by the name of their route, as the plain values that they are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from pelton.errors import Conflict
from pelton.records import NEW, Change
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert
from pelton.state.label_rows import SUBJECT as OF_LABELS
from pelton.state.label_rows import all_labels
from pelton.state.tables import routes

SUBJECT = "routes"


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


Tell = Callable[[StoredPolicy | None, Mapping[str, Mapping[str, int]]], Change]
"""Told the policy so far and all labels by the model's name, as they are until the change is made,
it returns the row of the audit trail; or it refuses the change by raising."""


class RouteStore:
    """The policies of all routes.

    Whoever changes one may name the revision that the change is based on, so that nobody undoes by
    mistake what another one did meanwhile. Who names none has the last word. In either case the
    audit trail's `before` is true, since it is told by what the change finds.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def set(
        self, name: str, policy: Mapping[str, Any], expected_revision: int | None, tell: Tell
    ) -> StoredPolicy:
        """Make a route or change its policy.

        Args:
            name: the route's name.
            policy: plain values.
            expected_revision: that of the policy which is replaced, `NEW` for a route that is not
                there; None for whichever.
            tell: returns the row of the audit trail, or refuses the change.

        Returns:
            The policy as it is kept now, with its new revision.

        Raises:
            Conflict: the route has another revision, is gone, or is there already.
            Unavailable: the database is busy, away or full.
            PeltonError: what `tell` raises; then nothing is changed.
        """

        def told(connection: Connection) -> Change:
            before = _find(connection, name)
            _expect(name, before, expected_revision)
            return tell(before, all_labels(connection))

        def work(connection: Connection) -> StoredPolicy:
            revision = generations.bump(connection, SUBJECT)
            kept = {"policy": policy, "revision": revision}
            row = insert(connection, routes).values(name=name, **kept)
            connection.execute(row.on_conflict_do_update(index_elements=[routes.c.name], set_=kept))
            return StoredPolicy(name, policy, revision)

        return self._audit.along(told, work, holding=(SUBJECT, OF_LABELS))

    def delete(
        self,
        name: str,
        expected_revision: int | None,
        tell: Callable[[StoredPolicy | None], Change],
    ) -> StoredPolicy | None:
        """Delete a route.

        Args:
            name: the route's name.
            expected_revision: that of the policy which is deleted; None for whichever.
            tell: given the policy so far, returns the row of the audit trail, or refuses.

        Returns:
            The policy as it was; None where there was none.

        Raises:
            Conflict: the route has another revision, or is gone.
            Unavailable: the database is busy, away or full.
            PeltonError: what `tell` raises; then nothing is changed.
        """
        found: list[StoredPolicy | None] = []

        def told(connection: Connection) -> Change:
            found.append(_find(connection, name))
            change = tell(found[-1])
            _expect(name, found[-1], expected_revision)
            return change

        def work(connection: Connection) -> StoredPolicy | None:
            generations.bump(connection, SUBJECT)
            connection.execute(delete(routes).where(routes.c.name == name))
            return found[-1]

        return self._audit.along(told, work, holding=(SUBJECT,))

    def find(self, name: str) -> StoredPolicy | None:
        """Return a route's policy; None where there is no such route.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(lambda c: _find(c, name))

    def all(self) -> dict[str, StoredPolicy]:
        """Return the policies of all routes by their names.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(all_routes)

    def generation(self) -> int:
        """Return a number that grows with each change of a route, by whatever server.

        Read it before the routes: then these are at least as new.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(lambda c: generations.current(c, SUBJECT))


def all_routes(connection: Connection) -> dict[str, StoredPolicy]:
    """Return the policies of all routes by their names, within a transaction."""
    rows = connection.execute(select(routes).order_by(routes.c.name))
    return {row.name: StoredPolicy(**row._asdict()) for row in rows}


def _find(connection: Connection, name: str) -> StoredPolicy | None:
    row = connection.execute(select(routes).where(routes.c.name == name)).one_or_none()
    return None if row is None else StoredPolicy(**row._asdict())


def _expect(name: str, before: StoredPolicy | None, expected: int | None) -> None:
    """Refuse a change that is based on another revision than the one that is kept."""
    found = NEW if before is None else before.revision
    if expected in (None, found):
        return
    now = "is not set" if found == NEW else f"is at revision {found}"
    then = "to be new" if expected == NEW else f"to be at revision {expected}"
    raise Conflict(
        f"the route {name!r:.140} {now}, and the request wants it {then}; look at it and try again"
    )
