"""The migrations make exactly the tables that the stores use, once, whoever starts them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from pelton.errors import SettingsError
from pelton.state.migrating import SCRIPTS, VERSION_TABLE, migrate, revision
from pelton.state.state import State
from pelton.state.tables import metadata

OPEN = """
import sys
from pelton.state.state import State
sys.stdin.readline()  # all begin together
state = State.open(sys.argv[1], wait_s=30)
assert state.writable()
state.close()
"""


def differences(connection: Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_migrated_tables_are_those_of_the_stores(state: State) -> None:
    assert state.database.read(differences) == []


def test_a_difference_would_be_seen(state: State) -> None:
    state.database.write(lambda c: c.exec_driver_sql("ALTER TABLE keys DROP COLUMN burst"))
    state.database.write(lambda c: c.exec_driver_sql("DROP INDEX ix_exposures_at_s"))
    assert {str(found[0]) for found in state.database.read(differences)} == {
        "add_column",
        "add_index",
    }


def test_there_is_one_newest_revision(state: State) -> None:
    (newest,) = ScriptDirectory(str(SCRIPTS)).get_heads()
    assert state.database.read(revision) == newest


def test_a_database_that_is_up_to_date_is_left_alone(state: State) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(state.database), "write", None)
        migrate(state.database)


def test_servers_that_start_at_once_do_not_collide(database_url: str) -> None:
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, database_url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for server in servers:
        server.stdin.write(b"\n")
        server.stdin.flush()
    for server in servers:
        _, log = server.communicate(timeout=60)
        assert server.returncode == 0, log.decode()
    state = State.open(database_url)
    assert state.database.read(differences) == []
    state.close()


def test_a_database_from_the_future_is_refused(state: State, database_url: str) -> None:
    later = f"UPDATE {VERSION_TABLE} SET version_num = '9999'"
    state.database.write(lambda connection: connection.exec_driver_sql(later))
    with pytest.raises(SettingsError) as refusal:
        State.open(database_url)
    newest = ScriptDirectory(str(SCRIPTS)).get_current_head()
    assert refusal.value.message == (
        "a newer version of Pelton has changed the database (its tables are at 9999, "
        f"this version knows them up to {newest}); "
        "install that version, or restore a backup from before"
    )


def test_a_migration_that_fails_leaves_nothing(database_url: str) -> None:
    from pelton.state import migrating, opening

    def half(connection: Connection) -> None:
        upgrade(connection)
        raise ArithmeticError("stopped")

    upgrade = migrating._upgrade
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrating, "_upgrade", half)
        with pytest.raises(ArithmeticError):
            opening.open_database(database_url)
    state = State.open(database_url)
    assert state.database.read(differences) == []
    assert state.writable()
    state.close()
