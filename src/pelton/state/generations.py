"""Numbers by which a server notices that another one has changed something."""

from __future__ import annotations

import functools
from collections.abc import Collection

from sqlalchemy import Connection, Executable, select

from pelton.state.inserting import insert, insert_for
from pelton.state.tables import generations


def bump(connection: Connection, subject: str) -> int:
    """Count one change of a subject, and return its new number, which no other change gets.

    Whoever counts holds the subject until the end of the transaction, so changes of one subject
    follow each other, and whoever sees a number sees the change.
    """
    first = {"subject": subject, "number": 1}
    return int(connection.execute(_counting(connection.dialect.name), first).scalar_one())


@functools.cache
def _counting(dialect: str) -> Executable:
    one_more = {"number": generations.c.number + 1}
    row = insert_for(dialect, generations)
    row = row.on_conflict_do_update(index_elements=[generations.c.subject], set_=one_more)
    return row.returning(generations.c.number)


def hold(connection: Connection, subjects: Collection[str]) -> None:
    """Have nobody else change these subjects until the end of the transaction.

    What is read after this is as it will be. All who hold several take them in the same order, so
    that no two wait for each other.
    """
    for subject in sorted(subjects):
        row = insert(connection, generations).values(subject=subject, number=0)
        same = {"number": generations.c.number}
        connection.execute(row.on_conflict_do_update(index_elements=["subject"], set_=same))


def current(connection: Connection, subject: str) -> int:
    """Return the number of the last change of a subject; 0 where there was none."""
    query = select(generations.c.number).where(generations.c.subject == subject)
    return int(connection.execute(query).scalar() or 0)


def every(connection: Connection) -> dict[str, int]:
    """Return the number of each subject that was ever changed."""
    changed = select(generations).where(generations.c.number > 0)  # others were only held
    return {row.subject: row.number for row in connection.execute(changed)}
