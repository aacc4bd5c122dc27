"""Everything that is kept, behind one door."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from pelton.errors import PeltonError
from pelton.state import generations
from pelton.state.audit import Audit
from pelton.state.database import Database
from pelton.state.exposures import ExposureStore
from pelton.state.keys import KeyStore
from pelton.state.labels import LabelStore
from pelton.state.opening import WAIT_S, open_database
from pelton.state.routes import RouteStore
from pelton.state.versions import VersionStore


@dataclass(frozen=True, slots=True)
class State:
    """The stores over one database; any thread may use them, and all of them wait for it.

    Attributes:
        keys: API keys.
        routes: traffic policies.
        labels: names of versions.
        versions: published versions and swaps.
        audit: who changed what.
        exposures: who was given which version.
        database: what they are kept in.
    """

    keys: KeyStore
    routes: RouteStore
    labels: LabelStore
    versions: VersionStore
    audit: Audit
    exposures: ExposureStore
    database: Database

    @classmethod
    def open(cls, url: str, wait_s: float = WAIT_S) -> State:
        """Open the database; make it, or change its tables, where needed.

        Args:
            url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
            wait_s: how long each call waits for a database that is busy or away, seconds.

        Raises:
            SettingsError: the URL is wrong, its driver is not installed, the database is damaged,
                refuses us, or was changed by a newer version; one sentence with the cure.
            Unavailable: the database is busy or does not answer, or its disk is full.
        """
        database = open_database(url, wait_s)
        audit = Audit(database)
        return cls(
            keys=KeyStore(database, audit),
            routes=RouteStore(database, audit),
            labels=LabelStore(database, audit),
            versions=VersionStore(database, audit),
            audit=audit,
            exposures=ExposureStore(database),
            database=database,
        )

    def generations(self) -> dict[str, int]:
        """Return a number for each subject, such as `routes`, that grows with each change of it.

        Whichever server makes the change. Read the numbers before what they tell of: then that is
        at least as new. A subject that was never changed is not there.

        Raises:
            Unavailable: the database is busy or away.
        """
        return self.database.read(generations.every)

    @property
    def refusing(self) -> bool:
        """Whether the last change was not kept, since the database was busy, away or full."""
        return self.database.refusing

    def writable(self) -> bool:
        """Whether a change would be kept right now; found out by making one."""
        try:
            self.database.write(_probe)
        except PeltonError:
            return False
        return True

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()


def _probe(connection: Connection) -> None:
    generations.bump(connection, "probe")
