"""`INSERT ... ON CONFLICT`, which both databases have and SQLAlchemy keeps with each.

To make a statement takes SQLAlchemy longer than to run it, and the requests that come meanwhile
wait for the interpreter. So those of a publish are made once for each kind of database.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Begin an insert that may say what happens to rows that are there already."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Do the same for a kind of database, `connection.dialect.name`; for what is made once."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless another one is in its way; return whether it was inserted."""
    row = connection.execute(_of_new_row(connection.dialect.name, table), values)
    return row.first() is not None


@functools.cache
def _of_new_row(dialect: str, table: Table) -> Executable:
    return insert_for(dialect, table).on_conflict_do_nothing().returning(*table.primary_key)
