"""Which version of a model each of its labels, such as `stable`, stands for."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, select

from pelton.errors import Conflict
from pelton.records import Change
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert
from pelton.state.tables import labels

SUBJECT = "labels"


class LabelStore:
    """The labels of all models.

    Whoever moves one names the version that it stands for so far, so that the audit trail's
    `before` is true whoever else moves it at the same time.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def set(
        self, model: str, label: str, version: int, expected: int | None, change: Change
    ) -> None:
        """Have a label stand for a version.

        Args:
            model: the model's name.
            label: which of its labels.
            version: what it stands for from now on.
            expected: what it stands for so far; None for a new label.
            change: for the audit trail.

        Raises:
            Conflict: it stands for another version, is gone, or is there already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, SUBJECT)
            _expect(connection, model, label, expected)
            row = insert(connection, labels).values(model=model, label=label, version=version)
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[labels.c.model, labels.c.label], set_={"version": version}
                )
            )

        self._audit.along(change, work)

    def delete(self, model: str, label: str, expected: int, change: Change) -> None:
        """Delete a label.

        Args:
            model: the model's name.
            label: which of its labels.
            expected: what it stands for so far.
            change: for the audit trail.

        Raises:
            Conflict: it stands for another version, or is gone.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, SUBJECT)
            _expect(connection, model, label, expected)
            connection.execute(delete(labels).where(*_named(model, label)))

        self._audit.along(change, work)

    def all(self) -> dict[str, dict[str, int]]:
        """Return the labels by the model's name: label -> version, both in order.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(labels).order_by(labels.c.model, labels.c.label)
        found: dict[str, dict[str, int]] = {}
        for row in self._database.read(lambda c: list(c.execute(query))):
            found.setdefault(row.model, {})[row.label] = row.version
        return found


def _named(model: str, label: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return labels.c.model == model, labels.c.label == label


def _expect(connection: Connection, model: str, label: str, expected: int | None) -> None:
    """Refuse a change of a label that stands for something else than its maker thinks."""
    query = select(labels.c.version).where(*_named(model, label))
    found = connection.execute(query).scalar()
    if found != expected:
        now = "is gone" if found is None else f"stands for version {found}"
        raise Conflict(
            f"the label {label[:40]!r} of {model[:80]!r} was changed meanwhile: it {now}; "
            "look at it and try again"
        )
