"""Which version of a model each of its labels, such as `stable`, stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import ColumnElement, Connection, delete

from pelton.records import Change
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert
from pelton.state.label_rows import SUBJECT, all_labels
from pelton.state.routes import SUBJECT as OF_ROUTES
from pelton.state.routes import StoredPolicy, all_routes
from pelton.state.tables import labels

Tell = Callable[[Mapping[str, int], Mapping[str, StoredPolicy]], Change]
"""Told the labels of the model so far and all routes, as they are until the change is made, it
returns the row of the audit trail; or it refuses the change by raising."""


class LabelStore:
    """The labels of all models.

    Who changes one has the last word; the audit trail's `before` is true whoever else does so at
    the same time, since it is told by what the change finds.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def set(self, model: str, label: str, version: int, tell: Tell) -> None:
        """Have a label stand for a version.

        Args:
            model: the model's name.
            label: which of its labels.
            version: what it stands for from now on.
            tell: returns the row of the audit trail, or refuses the change.

        Raises:
            Unavailable: the database is busy, away or full.
            PeltonError: what `tell` raises; then nothing is changed.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, SUBJECT)
            row = insert(connection, labels).values(model=model, label=label, version=version)
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[labels.c.model, labels.c.label], set_={"version": version}
                )
            )

        self._along(model, tell, work)

    def delete(self, model: str, label: str, tell: Tell) -> None:
        """Delete a label; one that is not there is gone already.

        Args:
            model: the model's name.
            label: which of its labels.
            tell: returns the row of the audit trail, or refuses the change.

        Raises:
            Unavailable: the database is busy, away or full.
            PeltonError: what `tell` raises; then nothing is changed.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, SUBJECT)
            connection.execute(delete(labels).where(*_named(model, label)))

        self._along(model, tell, work)

    def all(self) -> dict[str, dict[str, int]]:
        """Return the labels by the model's name: label -> version, both in order.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(all_labels)

    def _along(self, model: str, tell: Tell, work: Callable[[Connection], None]) -> None:
        def told(connection: Connection) -> Change:
            return tell(all_labels(connection).get(model, {}), all_routes(connection))

        self._audit.along(told, work, holding=(SUBJECT, OF_ROUTES))


def _named(model: str, label: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return labels.c.model == model, labels.c.label == label
