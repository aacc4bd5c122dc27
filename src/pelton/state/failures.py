"""What a driver's error means for whoever asked.

SQLite numbers its errors (https://www.sqlite.org/rescode.html), PostgreSQL has a code of five
characters for each (https://www.postgresql.org/docs/current/errcodes-appendix.html). What either
of them says in words stays in the server.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from sqlalchemy import exc

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable

RETRY_AFTER_S = 1.0
"""How soon another try is sensible when the database is busy or away."""

DISK_FULL_RETRY_AFTER_S = 60.0
"""Likewise when there is no room, no file or no entrance; somebody has to see to it."""

AWAY = "The server's database does not answer; try again later"
SHUT_OUT = "The server's database does not let the server in"
UNCERTAIN = "The server's database went away; see whether the change was made before you repeat it"
BUSY = "The server's database is busy; try again later"
FULL = "The server has no room left to keep this"
REPLACED = (
    "The server's database file was removed or replaced while the server ran, so nothing is kept "
    "any more; restore the file, and restart the server"
)
READ_ONLY = "The server's database takes no changes at the moment"
DAMAGED = "The server's database is damaged"
UNREADABLE = "The server's database holds a row that cannot be read"
REFUSED = "The server's database refused a statement"
UNKEEPABLE = "A value cannot be kept: it is out of range, or holds a character that no text may"

_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_AWAY = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_ROLLED_BACK_FOR_OTHERS = {"40001", "40P01"}  # serialization failure, deadlock
_GOING_AWAY = {"57P01", "57P02", "57P03", "25P03"}  # shut down, crashed, starting; idle too long
_LOCKED = {"55P03", "57014"}  # lock timeout, statement timeout

_SHUT_OUT = re.compile(
    "FATAL: .*(does not exist|permission denied|not permitted to log in|authentication failed"
    "|no pg_hba.conf entry|not currently accepting connections)|no password supplied"
)
"""What PostgreSQL says before there is a connection has no code. Where it says so in another
language, it counts as away."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A driver's error in our words.

    Attributes:
        error: what to raise.
        passing: whether the whole transaction may well succeed when it is tried again.
        lost: whether the connection broke, so that nobody knows what was committed over it.
    """

    error: PeltonError
    passing: bool = False
    lost: bool = False


def understand(error: exc.SQLAlchemyError) -> Failure:
    """Say what a driver's error, as SQLAlchemy raised it, means."""
    original = error.orig if isinstance(error, exc.StatementError) else None
    if isinstance(original, PeltonError):  # a column refused a value
        return Failure(original)
    if isinstance(error, exc.TimeoutError):  # no connection of the pool came free
        return Failure(_unavailable(BUSY))
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original)
    if isinstance(error, exc.DBAPIError):
        return _of_postgres(error)
    return Failure(PeltonError(REFUSED))


def _of_sqlite(error: sqlite3.Error) -> Failure:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF  # the rest tells details
    if code in _SQLITE_FULL:
        return Failure(_full())
    if primary in _SQLITE_BUSY:
        return Failure(_unavailable(BUSY), passing=True)
    if primary in _SQLITE_AWAY:
        return Failure(_unavailable(AWAY))
    if primary == sqlite3.SQLITE_READONLY:
        return Failure(_unavailable(READ_ONLY))
    if primary in _SQLITE_DAMAGED:
        return Failure(PeltonError(DAMAGED))
    return Failure(PeltonError(REFUSED))


def _of_postgres(error: exc.DBAPIError) -> Failure:
    sqlstate = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or sqlstate in _GOING_AWAY:
        return Failure(_unavailable(AWAY), passing=True, lost=True)
    if sqlstate is None and isinstance(error, exc.OperationalError):  # no connection was made
        if _SHUT_OUT.search(str(error.orig)):
            return Failure(Unavailable(SHUT_OUT, DISK_FULL_RETRY_AFTER_S))
        return Failure(_unavailable(AWAY), passing=True)
    if sqlstate in _ROLLED_BACK_FOR_OTHERS:
        return Failure(_unavailable(BUSY), passing=True)
    if sqlstate == "53100":
        return Failure(_full())
    if sqlstate in _LOCKED or str(sqlstate).startswith("53"):  # 53: resources are exhausted
        return Failure(_unavailable(BUSY))
    if sqlstate == "25006":
        return Failure(_unavailable(READ_ONLY))
    if str(sqlstate).startswith("22"):  # the data
        return Failure(InvalidRequest(UNKEEPABLE))
    return Failure(PeltonError(DAMAGED if sqlstate in {"XX001", "XX002"} else REFUSED))


def uncertain() -> Unavailable:
    """Return the error of a change that may have been made or not."""
    return _unavailable(UNCERTAIN)


def replaced() -> Unavailable:
    """Return the error of a file that is not the one which was opened."""
    return Unavailable(REPLACED, DISK_FULL_RETRY_AFTER_S)


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, RETRY_AFTER_S)


def _full() -> Unavailable:
    return Unavailable(FULL, DISK_FULL_RETRY_AFTER_S, Code.DISK_FULL)
