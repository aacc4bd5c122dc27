"""API keys: what is kept of them is enough to recognise one, and not to use it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from pelton.errors import Conflict, NotFound
from pelton.records import Change, Key, Scope
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.inserting import insert_new
from pelton.state.tables import keys

_SUBJECT = "keys"
_KNOWN = {scope.value for scope in Scope}


class KeyStore:
    """The keys that were ever made."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def add(self, key: Key, change: Change) -> None:
        """Keep a new key.

        Raises:
            Conflict: there is a key of this id or digest already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> None:
            generations.bump(connection, _SUBJECT)
            if not insert_new(connection, keys, _values(key)):
                raise Conflict(f"there is a key with the id {key.id[:40]!r} already")

        self._audit.along(change, work)

    def revoke(self, id: str, at_s: float, change: Change) -> Key:  # noqa: A002
        """Revoke a key for good; a key that is revoked already keeps its time.

        Args:
            id: public part of the key.
            at_s: when, seconds since 1970.
            change: for the audit trail.

        Returns:
            The key as it is now.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked already.
            Unavailable: the database is busy, away or full.
        """

        def work(connection: Connection) -> Key:
            generations.bump(connection, _SUBJECT)
            found = connection.execute(select(keys).where(keys.c.id == id)).one_or_none()
            if found is None:
                raise NotFound(f"there is no key with the id {id[:40]!r}")
            if found.revoked_s is not None:
                raise Conflict(f"the key {id[:40]!r} is revoked already")
            revoked = update(keys).where(keys.c.id == id).values(revoked_s=at_s).returning(keys)
            return _key(connection.execute(revoked).one())

        return self._audit.along(change, work)

    def find(self, id: str) -> Key | None:  # noqa: A002
        """Return the key with this id, revoked or not; None where there is none.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(keys).where(keys.c.id == id)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else _key(row)

    def active(self, now_s: float) -> list[Key]:
        """Return the keys that are neither revoked nor expired, in no order.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(keys).where(
            keys.c.revoked_s.is_(None),
            or_(keys.c.expires_s.is_(None), keys.c.expires_s > now_s),
        )
        return self._database.read(lambda c: [_key(row) for row in c.execute(query)])

    def list(self) -> list[Key]:
        """Return all keys that were ever made, the oldest first.

        Raises:
            Unavailable: the database is busy or away.
        """
        query = select(keys).order_by(keys.c.created_s, keys.c.id)
        return self._database.read(lambda c: [_key(row) for row in c.execute(query)])

    def generation(self) -> int:
        """Return a number that grows with each change of the keys, by whatever server.

        Read it before the keys: then these are at least as new.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self._database.read(lambda c: generations.current(c, _SUBJECT))


def _values(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "digest": key.digest,
        "label": key.label,
        "scopes": " ".join(sorted(key.scopes)),
        "created_s": key.created_s,
        "expires_s": key.expires_s,
        "revoked_s": key.revoked_s,
        "requests_per_s": key.requests_per_s,
        "burst": key.burst,
    }


def _key(row: Row[Any]) -> Key:
    """Make a key of a row; a scope that only a newer version knows gives no right here."""
    values = row._asdict()
    named = set(values["scopes"].split())
    return Key(**{**values, "scopes": frozenset(Scope(name) for name in named & _KNOWN)})
