"""Brings a database to the tables of this version, whoever else is starting at the same time."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pelton.errors import SettingsError
from pelton.state.database import Database

SCRIPTS = Path(__file__).parent / "migrations"

logger = logging.getLogger("pelton.state")

VERSION_TABLE = "pelton_revision"
"""A name of our own, since another program may keep its tables in the same database."""

_LOCK = 0x70656C746F6E
"""PostgreSQL's advisory locks are numbers; this one spells `pelton`."""


def migrate(database: Database) -> None:
    """Run the migrations that the database has not seen, all of them or none.

    One server at a time does so: SQLite has one writer, and PostgreSQL a lock for the purpose.

    Raises:
        SettingsError: a newer version of Pelton has changed the tables.
        Unavailable: the database is busy or away.
        PeltonError: it refused a statement.
    """
    newest = ScriptDirectory(str(SCRIPTS)).get_current_head()
    if database.read(revision) != newest:
        database.write(_upgrade)
        logger.info("the database has the tables of revision %s now", newest)


def revision(connection: Connection) -> str | None:
    """Return the name of the last migration that the database has seen; None for none."""
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    _refuse_the_future(revision(connection))
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, "head")


def _refuse_the_future(current: str | None) -> None:
    scripts = ScriptDirectory(str(SCRIPTS))
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise SettingsError(
            f"a newer version of Pelton has changed the database (its tables are at {current:.40}, "
            f"this version knows them up to {scripts.get_current_head()}); "
            "install that version, or restore a backup from before"
        )
