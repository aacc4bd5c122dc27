"""A database by its URL: opened, looked through, and brought to the tables of this version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError

from pelton.errors import PeltonError, SettingsError, Unavailable
from pelton.state import postgres, sqlite
from pelton.state.database import Database
from pelton.state.failures import DAMAGED, REFUSED, SHUT_OUT, UNREADABLE
from pelton.state.migrating import migrate
from pelton.state.tables import metadata, routes

WAIT_S = 5.0
"""How long a call waits for a database that is busy or away, unless told otherwise."""

_FORMS = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

_UNREADABLE = (
    f"the database URL cannot be read; it has to be {_FORMS}, with %40 for an @ in the password"
)


def open_database(url: str, wait_s: float = WAIT_S) -> Database:
    """Open a database, and make or change its tables where needed.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
        wait_s: how long each call waits for a database that is busy or away, seconds.

    Raises:
        SettingsError: the URL is wrong, its driver is not installed, the database is damaged,
            refuses us, or was changed by a newer version; one sentence with the cure.
        Unavailable: the database is busy or does not answer, or its disk is full.
    """
    parsed = _parse(url)
    is_file = parsed.get_backend_name() == "sqlite"
    open_engine = sqlite.open_file if is_file else postgres.open_server
    database = Database(open_engine(parsed, wait_s), wait_s)
    try:
        with _told_to_operators(parsed):
            database.read(_refuse_damage if is_file else _touch)
            migrate(database)
            database.read(_try_tables)
    except BaseException:
        database.close()
        raise
    return database


def _parse(url: str) -> URL:
    """Read a URL.

    What is wrong with it is told without quoting it, since it may hold a password.
    """
    try:
        parsed = make_url(re.sub("^postgres:", "postgresql:", url))
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SettingsError(_UNREADABLE) from None
    if "@" in f"{parsed.host}{parsed.database}" and parsed.get_backend_name() != "sqlite":
        raise SettingsError(_UNREADABLE)  # what was taken for a host is a piece of a password
    if parsed.drivername not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise SettingsError(
            f"the database URL begins with {parsed.drivername[:40]!r}; it has to be {_FORMS}"
        )
    return parsed


def _touch(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT 1")


def _refuse_damage(connection: Connection) -> None:
    damage = sqlite.examine(connection)
    if damage:
        raise PeltonError(f"{DAMAGED} ({damage:.200})")


def _try_tables(connection: Connection) -> None:
    """See whether all tables and columns are there, and whether routes can be read.

    Without them the server would start, or nearly so, and then not know what is wrong.
    """
    for table in metadata.sorted_tables:
        query = select(table)
        try:
            connection.execute(query if table is routes else query.limit(0)).all()
        except PeltonError as error:
            raise PeltonError(f"{error.message}, in the table {table.name}") from error


@contextmanager
def _told_to_operators(url: URL) -> Iterator[None]:
    """Add to an error what only those may read who start the server."""
    try:
        yield
    except SettingsError:
        raise
    except PeltonError as error:
        message = f"the database {_place(url)} cannot be used: {error.message}{_detail(error, url)}"
        if isinstance(error, Unavailable) and error.message != SHUT_OUT:
            raise Unavailable(message, error.retry_after_s, error.code) from error.__cause__
        raise SettingsError(message + _cure(error, url)) from error.__cause__


def _cure(error: PeltonError, url: URL) -> str:
    if error.message == SHUT_OUT:
        return "; mend the URL, or make that database and its user, who may connect to it"
    if not error.message.startswith((DAMAGED, UNREADABLE, REFUSED)):
        return ""
    if url.get_backend_name() == "sqlite":
        return "; restore a backup, or move the file away to begin with an empty one"
    return "; give its user the rights to make, read and change tables, or restore a backup"


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "of this machine"
    return f"{url.database!r} on {host}"


def _detail(error: PeltonError, url: URL) -> str:
    """Quote the first line of what the driver said, without the password."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return ""
    line = " ".join(str(cause.orig).split())
    if url.password:
        line = line.replace(str(url.password), "***")
    return f" ({line:.300})"
