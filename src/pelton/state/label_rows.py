"""The rows of all labels, as those who change labels or routes read them in their transactions."""

from __future__ import annotations

from sqlalchemy import Connection, select

from pelton.state.tables import labels

SUBJECT = "labels"


def all_labels(connection: Connection) -> dict[str, dict[str, int]]:
    """Return the labels by the model's name: label -> version, both in order."""
    query = select(labels).order_by(labels.c.model, labels.c.label)
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.model, {})[row.label] = row.version
    return found
