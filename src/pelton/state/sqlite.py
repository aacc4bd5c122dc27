"""The state as one SQLite file.

Its settings are those under which a commit outlives a crash of the process, of the machine and of
its power supply: a write-ahead log that is synced at each commit
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from pelton.errors import SettingsError
from pelton.state.database import WRITING
from pelton.state.failures import replaced

FILE_NAME = "pelton.db"

logger = logging.getLogger("pelton.state")


def file_url(folder: Path) -> str:
    """Return the URL of the state file in a folder."""
    url = URL.create("sqlite", database=str(folder.absolute() / FILE_NAME))
    return url.render_as_string(hide_password=False)


def open_file(url: URL, wait_s: float) -> Engine:
    """Make the file if it is missing, for its user alone, and an engine over it.

    Args:
        url: `sqlite:///PATH`.
        wait_s: how long to wait for another writer, seconds.

    Raises:
        SettingsError: the URL names no file, or the file cannot be made.
    """
    path = _path(url)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    except OSError as error:
        raise SettingsError(
            f"the database {path} cannot be opened: {error.strerror}; "
            "name a file that this user may write to"
        ) from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # The driver shall begin no transaction by itself; `_begin` does.
        connect_args={"timeout": wait_s, "isolation_level": None},
        pool_timeout=wait_s,
        hide_parameters=True,
    )
    place = _Place(path)
    event.listen(engine, "do_connect", place.check)  # SQLite would make a new, empty file
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "connect", place.remember)
    event.listen(engine, "begin", place.check)
    event.listen(engine, "begin", _begin)
    return engine


def examine(connection: Connection) -> str:
    """Look through the whole file for damage.

    Returns:
        What is wrong with it, on one line; empty where nothing is.
    """
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    return "" if found == "ok" else " ".join(found.split())


def _path(url: URL) -> Path:
    if url.host or url.query or url.database in {None, "", ":memory:"}:
        raise SettingsError("a database URL for SQLite is sqlite:///PATH, with the path of a file")
    return Path(str(url.database)).absolute()


class _Place:
    """Where the file is: what is written to it once another one is there, or none, is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def remember(self, *_event: object) -> None:
        """Note which file it is, when it has been opened for the first time."""
        if self._opened is None:
            self._opened = self._found()

    def check(self, *_event: object) -> None:
        """Refuse to go on with another file than the one that was opened.

        Raises:
            Unavailable: it is not there any more.
        """
        if self._opened is not None and self._found() != self._opened:
            raise replaced()

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _make(path: Path) -> None:
    """Make the file for its user alone; the files that SQLite puts beside it get the same mode.

    An existing file is not opened here: to close it would let go of the locks that SQLite holds on
    it in this process (https://www.sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        OSError: it cannot be made, is no file, or belongs to somebody else.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        if path.stat().st_mode & 0o077:
            logger.warning("others may read the database %s; chmod 600 keeps it private", path)


def _prepare(connection: Any, _record: object) -> None:
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()
    except sqlite3.Error:
        connection.close()  # the pool forgets a connection that never became one
        raise


def _begin(connection: Connection) -> None:
    """Take the write lock at once: a reader that becomes a writer may find it is too late."""
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
