"""The audit trail: who changed what and when, kept in one transaction with the change itself."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from pelton.records import Change
from pelton.state import generations
from pelton.state.database import Database
from pelton.state.inserting import insert_new
from pelton.state.tables import changes

T = TypeVar("T")

MAX_VALUES_CHARACTERS = 64 * 1024
"""Of the JSON of `before`, and likewise of `after`; the trail is to be read by people."""

KEPT_CHARACTERS = 4096
"""Of what is longer."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A change with its place in the trail.

    Attributes:
        number: grows from change to change, with gaps.
        change: what was changed.
    """

    number: int
    change: Change


class Audit:
    """Appends to the trail and reads it; nothing takes anything away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, change: Change) -> None:
        """Append a change of something that is not kept here.

        Raises:
            Unavailable: the database is busy, away or full.
        """
        self.along(change, lambda _connection: None)

    def within(self, connection: Connection, change: Change) -> None:
        """Append one more change, in the transaction of another that `along` runs.

        Raises:
            InvalidRequest: a value cannot be kept.
        """
        insert_new(connection, changes, {"token": uuid.uuid4().hex, **_values(change)})

    def along(
        self,
        change: Change | Callable[[Connection], Change],
        work: Callable[[Connection], T],
        holding: Collection[str] = (),
    ) -> T:
        """Run a transaction and append the change it makes: both or neither, and once.

        When the connection is lost during the commit, the transaction is run again; before `work`
        comes its row of the trail, and if that is there already, everything is.

        Args:
            change: what `work` does; or what tells it by what is kept, and may refuse it.
            work: is given the connection.
            holding: subjects that nobody else changes from before `change` until the end.

        Returns:
            What `work` returns.

        Raises:
            Unavailable: the database is busy, away or full.
            InvalidRequest: a value cannot be kept.
            PeltonError: the database is damaged; or what `work` raises, and then nothing is kept.
        """
        token = uuid.uuid4().hex
        results: list[T] = []

        def both(connection: Connection) -> T:
            generations.hold(connection, holding)
            if results and _is_there(connection, token):  # it must not be judged by itself
                return results[-1]
            made = change(connection) if callable(change) else change
            if insert_new(connection, changes, {"token": token, **_values(made)}):
                results.append(work(connection))
            return results[-1]

        return self._database.write(both)

    def list(
        self,
        limit: int = 100,
        before: int | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditRow]:
        """Return changes, the newest first.

        Args:
            limit: how many at most.
            before: only those before this number; the last one's number asks for the next page.
            actor: only those by this key.
            action: only those of this kind, such as `route.set`.
            subject: only those of this route, model or key.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(changes).order_by(changes.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(changes.c.number < before)
        wanted = {"actor": actor, "action": action, "subject": subject}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(changes.c[name] == value)
        return self._database.read(lambda c: [_audit_row(row) for row in c.execute(query)])


def _values(change: Change) -> dict[str, Any]:
    values = asdict(change)
    return values | {name: _bounded(values[name]) for name in ("before", "after")}


def _is_there(connection: Connection, token: str) -> bool:
    query = select(changes.c.number).where(changes.c.token == token)
    return connection.execute(query).first() is not None


def _bounded(told: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return plain values; of those that are too long, how they begin and how long they are."""
    written = json.dumps(told)
    if len(written) <= MAX_VALUES_CHARACTERS:
        return told
    return {"begins": written[:KEPT_CHARACTERS], "characters": len(written)}


def _audit_row(row: Row[Any]) -> AuditRow:
    values = row._asdict()
    number = values.pop("number")
    del values["token"]
    return AuditRow(number, Change(**values))
