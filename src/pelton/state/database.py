"""Transactions over SQLite or PostgreSQL: whole, patient for a while, and in our own errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pelton.errors import InvalidRequest, Unavailable
from pelton.state.failures import UNKEEPABLE, uncertain, understand

T = TypeVar("T")

WRITING = "pelton_writing"
"""Execution option of a connection whose transaction changes something."""

_PAUSE_S = 0.1
"""Between two tries of a transaction."""


class Database:
    """Runs functions in transactions; any thread may call it.

    A transaction that fails for a passing reason (the connection was lost, another writer was in
    the way) is tried again as a whole until `wait_s` is over.

    Attributes:
        refusing: whether the last change was not kept, since the database was busy, away or full.
    """

    def __init__(self, engine: Engine, wait_s: float) -> None:
        """Use an engine.

        Args:
            engine: made by `pelton.state.opening`.
            wait_s: how long to wait for a database that is busy or away, seconds.
        """
        self.refusing = False
        self._engine = engine
        self._wait_s = wait_s

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run a function that changes nothing, in a transaction.

        Args:
            work: is given the connection; may be called again when a try failed.

        Returns:
            What `work` returns.

        Raises:
            Unavailable: the database is busy or away for longer than `wait_s`.
            PeltonError: the database is damaged or refused a statement; or what `work` raises.
        """
        return self._patiently(work, writing=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run a function that changes something; all of its changes are kept, or none.

        When the connection is lost during a commit, nobody knows whether it was done, and `work`
        is run again. So a change that must not be made twice goes through `Audit.along`, which
        recognises what was committed.

        Args:
            work: is given the connection; may be called again when a try failed.

        Returns:
            What `work` returns.

        Raises:
            Unavailable: the database is busy, away or read-only for longer than `wait_s`;
                `DISK_FULL`: there is no room.
            InvalidRequest: a value cannot be kept.
            PeltonError: the database is damaged or refused a statement; or what `work` raises.
        """
        try:
            result = self._patiently(work, writing=True)
        except Unavailable:
            self.refusing = True
            raise
        self.refusing = False
        return result

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._engine.dispose()

    def _patiently(self, work: Callable[[Connection], T], writing: bool) -> T:
        give_up_s = time.monotonic() + self._wait_s
        in_doubt = False
        while True:
            try:
                return self._once(work, writing)
            except SQLAlchemyError as error:
                failure = understand(error)
                in_doubt = in_doubt or (failure.lost and writing)
                if not failure.passing or time.monotonic() >= give_up_s:
                    raise uncertain() if in_doubt else failure.error from error
            except OverflowError as error:  # SQLite's driver, of a number beyond 64 bits
                raise InvalidRequest(UNKEEPABLE) from error
            time.sleep(_PAUSE_S)

    def _once(self, work: Callable[[Connection], T], writing: bool) -> T:
        with self._engine.connect() as connection:
            connection = connection.execution_options(**{WRITING: writing})
            with connection.begin():
                return work(connection)
