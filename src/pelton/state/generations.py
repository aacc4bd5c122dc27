"""Numbers by which a server notices that another one has changed something."""

from __future__ import annotations

from sqlalchemy import Connection, select

from pelton.state.inserting import insert
from pelton.state.tables import generations


def bump(connection: Connection, subject: str) -> int:
    """Count one change of a subject, and return its new number, which no other change gets.

    Whoever counts holds the subject until the end of the transaction, so changes of one subject
    follow each other, and whoever sees a number sees the change.
    """
    counted = (
        insert(connection, generations)
        .values(subject=subject, number=1)
        .on_conflict_do_update(
            index_elements=[generations.c.subject], set_={"number": generations.c.number + 1}
        )
        .returning(generations.c.number)
    )
    return int(connection.execute(counted).scalar_one())


def current(connection: Connection, subject: str) -> int:
    """Return the number of the last change of a subject; 0 where there was none."""
    query = select(generations.c.number).where(generations.c.subject == subject)
    return int(connection.execute(query).scalar() or 0)


def every(connection: Connection) -> dict[str, int]:
    """Return the number of each subject that was ever changed."""
    return {row.subject: row.number for row in connection.execute(select(generations))}
