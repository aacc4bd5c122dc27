"""Which versions came into the repository, and which of them answered when."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, case, func, insert, select, update

from pelton.errors import Conflict, NotFound
from pelton.records import Change, PublishedVersion, Swap, VersionState
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert_for, insert_new
from pelton.state.tables import swaps, version_numbers, versions

_SUBJECT = "versions"

_ONE = select(versions).where(
    versions.c.model == bindparam("of_model"), versions.c.version == bindparam("of_number")
)

_SWAP = insert(swaps)


class VersionStore:
    """Published versions and swaps; a row is never removed, so no version is used twice."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def next_version(self, model: str, above: int = 0) -> int:
        """Promise a version that the model never had, and promise it to nobody else.

        Args:
            model: the model's name.
            above: the highest version in the repository's folder, whoever put it there.

        Raises:
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> int:
            promised = _promising(connection.dialect.name)
            return int(connection.execute(promised, _number(model, above + 1)).scalar_one())

        return self._database.write(work)

    def take_number(self, model: str, number: int) -> None:
        """Never promise a number to anybody, since it is about to be used.

        Raises:
            Conflict: the model has or had this version already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            if connection.execute(_ONE, _key(model, number)).one_or_none() is not None:
                raise _used(model, number)
            _use_number(connection, model, number)

        self._database.write(work)

    def add(self, version: PublishedVersion, change: Change) -> None:
        """Keep a new version.

        Raises:
            Conflict: the model has or had this version already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, _SUBJECT)
            _insert_version(connection, version)

        self._audit.along(change, work)

    def publish(
        self, version: PublishedVersion, change: Change, swap: Swap, swap_change: Change
    ) -> None:
        """Keep a new version and that it answers now: both or neither.

        Raises:
            Conflict: the model has or had this version already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, _SUBJECT)
            _insert_version(connection, version)
            connection.execute(_SWAP, asdict(swap))
            self._audit.within(connection, swap_change)

        self._audit.along(change, work)

    def set_state(
        self, model: str, version: int, state: VersionState, reason: str, change: Change
    ) -> PublishedVersion:
        """Change how far a version came.

        Args:
            model: the model's name.
            version: which of its versions.
            state: the new state.
            reason: why; empty where there is none.
            change: for the audit trail.

        Returns:
            The version as it is now.

        Raises:
            NotFound: there is no such version.
            Unavailable: the database is busy, away or full.
        """
        changed = (
            update(versions)
            .where(versions.c.model == model, versions.c.version == version)
            .values(state=state, reason=reason)
            .returning(versions)
        )

        def work(connection: Connection) -> PublishedVersion:
            generations.bump(connection, _SUBJECT)
            row = connection.execute(changed).one_or_none()
            if row is None:
                raise NotFound(f"no version {version} of {model[:80]!r} was published here")
            return _version(row)

        return self._audit.along(change, work)

    def find(self, model: str, version: int) -> PublishedVersion | None:
        """Return one version; None where it was never published here.

        Raises:
            Unavailable: the database is busy or away.
        """
        key = _key(model, version)
        row = self._database.read(lambda c: c.execute(_ONE, key).one_or_none())
        return None if row is None else _version(row)

    def add_swap(self, swap: Swap, change: Change) -> None:
        """Keep that another version answers now.

        Raises:
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, _SUBJECT)
            connection.execute(_SWAP, asdict(swap))

        self._audit.along(change, work)

    def latest_swaps(self) -> dict[str, Swap]:
        """Return the last swap of each model that had one, by the model's name.

        Raises:
            Unavailable: the database is busy or away.
        """
        newest = select(func.max(swaps.c.number)).group_by(swaps.c.model)
        query = select(swaps).where(swaps.c.number.in_(newest))
        found = self._database.read(lambda c: [_swap(row) for row in c.execute(query)])
        return {swap.model: swap for swap in found}

    def list_swaps(self, model: str | None = None, limit: int = 100) -> list[Swap]:
        """Return the swaps of one model, or of all, the newest first.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(swaps).order_by(swaps.c.number.desc()).limit(limit)
        if model is not None:
            query = query.where(swaps.c.model == model)
        return self._database.read(lambda c: [_swap(row) for row in c.execute(query)])

    def list(self, model: str | None = None) -> list[PublishedVersion]:
        """Return the versions of one model, or of all, by name and version.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(versions).order_by(versions.c.model, versions.c.version)
        if model is not None:
            query = query.where(versions.c.model == model)
        return self._database.read(lambda c: [_version(row) for row in c.execute(query)])

    def generation(self) -> int:
        """Return a number that grows with each change of versions and swaps, by whatever server.

        Read it before them: then they are at least as new.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(lambda c: generations.current(c, _SUBJECT))


def _insert_version(connection: Connection, version: PublishedVersion) -> None:
    if not insert_new(connection, versions, asdict(version)):
        raise _used(version.model, version.version)
    _use_number(connection, version.model, version.version)


def _used(model: str, number: int) -> Conflict:
    return Conflict(f"{model} has or had a version {number} already")


def _use_number(connection: Connection, model: str, version: int) -> None:
    """See to it that the number is never promised to anybody."""
    connection.execute(_using(connection.dialect.name), _number(model, version))


@functools.cache
def _using(dialect: str) -> Executable:
    """Keep the larger of two numbers: the last that was promised, and the one that is given."""
    row, last = insert_for(dialect, version_numbers), version_numbers.c.last
    larger = case((last < row.excluded.last, row.excluded.last), else_=last)
    return row.on_conflict_do_update(
        index_elements=[version_numbers.c.model], set_={"last": larger}
    )


@functools.cache
def _promising(dialect: str) -> Executable:
    """Promise the number that is given, or else the one after the last that was promised."""
    row, last = insert_for(dialect, version_numbers), version_numbers.c.last
    larger = case((last < row.excluded.last, row.excluded.last), else_=last + 1)
    row = row.on_conflict_do_update(index_elements=[version_numbers.c.model], set_={"last": larger})
    return row.returning(last)


def _number(model: str, number: int) -> dict[str, Any]:
    return {"model": model, "last": number}


def _key(model: str, version: int) -> dict[str, Any]:
    return {"of_model": model, "of_number": version}


def _version(row: Row[Any]) -> PublishedVersion:
    values = row._asdict()
    return PublishedVersion(**{**values, "state": VersionState(values["state"])})


def _swap(row: Row[Any]) -> Swap:
    values = row._asdict()
    del values["number"]
    return Swap(**values)
