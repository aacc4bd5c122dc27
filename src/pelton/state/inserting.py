"""`INSERT ... ON CONFLICT`, which both databases have and SQLAlchemy keeps with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Begin an insert that may say what happens to rows that are there already."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless another one is in its way; return whether it was inserted."""
    row = insert(connection, table).values(values).on_conflict_do_nothing()
    return connection.execute(row.returning(*table.primary_key)).first() is not None
