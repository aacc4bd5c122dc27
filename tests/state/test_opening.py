"""What a URL opens, and the sentence with which a server refuses to start."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import psycopg
import pytest

from pelton.errors import SettingsError, Unavailable
from pelton.records import Exposure
from pelton.state.exposures import ExposureStore
from pelton.state.opening import open_database
from pelton.state.sqlite import file_url
from pelton.state.state import State
from services.databases import change
from services.postgres import PASSWORD, PASSWORD_USER, Postgres

NEVER_S = 3600.0


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def pragma(state: State, name: str) -> object:
    question = f"PRAGMA {name}"
    return state.database.read(lambda c: c.exec_driver_sql(question).scalar_one())


def fill(state: State) -> None:
    """Write enough for the file to have many pages."""
    seen = [Exposure("r", f"unit {n}" * 10, True, "1", 0.5, True, False, n) for n in range(2000)]
    ExposureStore(state.database).add(seen)


def test_a_file_is_made_for_its_user_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        state = State.open(file_url(tmp_path / "new" / "state"))
    finally:
        os.umask(old)
    state.audit.append(change())
    folder = tmp_path / "new" / "state"
    assert mode(folder) == 0o700
    files = {path.name: mode(path) for path in folder.iterdir()}
    assert files == dict.fromkeys(["pelton.db", "pelton.db-wal", "pelton.db-shm"], 0o600)
    state.close()


def test_a_file_that_others_may_read_is_told_and_left_alone(tmp_path: Path, caplog) -> None:
    State.open(file_url(tmp_path)).close()
    assert caplog.messages == []
    (tmp_path / "pelton.db").chmod(0o644)
    State.open(file_url(tmp_path)).close()
    path = tmp_path / "pelton.db"
    assert mode(path) == 0o644
    assert f"others may read the database {path}; chmod 600 keeps it private" in caplog.messages


def test_a_folder_is_no_file_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pelton.db").mkdir(mode=0o755)
    with pytest.raises(SettingsError, match="name a file that this user may write to"):
        State.open(file_url(tmp_path))
    assert mode(tmp_path / "pelton.db") == 0o755


def test_a_file_of_another_user_is_told(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pelton.db").touch(mode=0o600)
    monkeypatch.setattr(os, "access", lambda path, rights: False)
    with pytest.raises(SettingsError, match="cannot be opened: Permission denied"):
        State.open(file_url(tmp_path))


def test_a_file_keeps_what_was_committed_through_a_loss_of_power(tmp_path: Path) -> None:
    state = State.open(file_url(tmp_path), wait_s=2.5)
    kept = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 2500}
    assert {name: pragma(state, name) for name in kept} == kept
    state.close()


@pytest.mark.parametrize("name", ["with space", "a?b", "100%", "a%41", "机器人"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    State.open(file_url(tmp_path / name)).close()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["pelton.db"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://u:s3cret@h/d", "begins with 'mysql'; it has to be sqlite:///PATH or"),
        ("postgresql+asyncpg://u:s3cret@h/d", "begins with 'postgresql+asyncpg'"),
        ("/tmp/s3cret.db", "cannot be read; it has to be sqlite:///PATH or"),
        ("postgresql://u:s3cret@h:port/d", "cannot be read"),
        ("postgresql://u:p@s3cret@h/d", "with %40 for an @ in the password"),
        ("", "cannot be read"),
        ("sqlite://", "with the path of a file"),
        ("sqlite:///:memory:", "with the path of a file"),
        ("sqlite:///s3cret.db?mode=memory", "with the path of a file"),
        ("sqlite://s3cret/x.db", "with the path of a file"),
    ],
)
def test_a_wrong_url_is_told_without_its_secrets(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        open_database(url)
    assert sentence in refusal.value.message
    assert "s3cret" not in refusal.value.message


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="name a file that this user may write to"):
        open_database(file_url(tmp_path / "file"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pelton.db").write_bytes(
        b"not a database, but long enough to be taken for one" * 99
    )
    with pytest.raises(SettingsError) as refusal:
        open_database(file_url(tmp_path))
    assert refusal.value.message == (
        f"the database {tmp_path}/pelton.db cannot be used: The server's database is damaged "
        "(file is not a database); restore a backup, or move the file away to begin with an empty one"
    )


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("damage", [bytes(4096), b"\xa5" * 4096], ids=["zeros", "noise"])
def test_a_file_with_a_damaged_page_is_refused(tmp_path: Path, where: float, damage: bytes) -> None:
    state = State.open(file_url(tmp_path))
    fill(state)
    state.close()
    path = tmp_path / "pelton.db"
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        file.seek(int(pages * where) * 4096)
        file.write(damage)
    with pytest.raises(
        SettingsError, match=r"is damaged .*; restore a backup, or move the file away"
    ):
        open_database(file_url(tmp_path))


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    state = State.open(file_url(tmp_path))
    fill(state)
    state.close()
    path = tmp_path / "pelton.db"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SettingsError, match="is damaged"):
        open_database(file_url(tmp_path))


def test_a_file_that_another_program_holds_is_told(tmp_path: Path) -> None:
    State.open(file_url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "pelton.db", isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE").close()
        other.execute("BEGIN EXCLUSIVE").close()
        with pytest.raises(Unavailable, match="is busy; try again later") as refusal:
            open_database(file_url(tmp_path), wait_s=0.05)
        other.execute("ROLLBACK").close()
    other.close()
    assert refusal.value.retry_after_s == 1.0


def test_a_missing_driver_names_the_line_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 'pelton\[postgres\]'"):
        open_database("postgresql://u:s3cret@localhost/d")


@pytest.mark.parametrize(
    "password", ["wr0ng:p%40ss", PASSWORD.replace("@", "%40").replace("/", "%2F")]
)
def test_a_password_is_in_no_message(postgres: Postgres, password: str) -> None:
    """The first does not fit; the second does, but there is no such database."""
    url = postgres.url("nowhere", f"{PASSWORD_USER}:{password}")
    with pytest.raises(SettingsError) as refusal:
        open_database(url)
    message = refusal.value.message
    assert message.startswith(f"the database 'nowhere' on {postgres.folder} cannot be used: ")
    told = (
        'database "nowhere" does not exist' if "s3cret" in password else "password authentication"
    )
    assert told in message
    assert "wr0ng" not in message
    assert "s3cret" not in message


def test_a_password_that_the_driver_quotes_is_left_out(monkeypatch) -> None:
    def connect(**parameters):
        raise psycopg.OperationalError(f"cannot use {parameters['password']} here")

    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.setattr(psycopg.Connection, "connect", connect)
    with pytest.raises(Unavailable, match=r"\(cannot use \*\*\* here\)$"):
        open_database("postgresql://u:s3cret@h/d", wait_s=0.05)


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"'d' on .* does not answer") as refusal:
        open_database(f"postgresql://u@/d?host={tmp_path}", wait_s=0.05)
    assert refusal.value.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("database", "user", "said"),
    [
        ("nowhere", "pelton", 'database "nowhere" does not exist'),
        ("postgres", "ghost", 'role "ghost" does not exist'),
        ("postgres", "asleep", "is not permitted to log in"),
        ("shut", "asker", 'permission denied for database "shut"'),
        ("postgres", PASSWORD_USER, "no password supplied"),
    ],
)
def test_who_is_not_let_in_is_told_why_and_at_once(
    postgres: Postgres, database: str, user: str, said: str
) -> None:
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'asleep'"):
        postgres.execute("CREATE ROLE asleep NOLOGIN")
        postgres.execute("CREATE ROLE asker LOGIN")
        postgres.execute("CREATE DATABASE shut")
        postgres.execute("REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
    with pytest.raises(SettingsError) as refusal:
        open_database(postgres.url(database, user), wait_s=NEVER_S)
    assert said in refusal.value.message
    assert "does not let the server in" in refusal.value.message
    assert "; mend the URL, or make that database and its user" in refusal.value.message


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("DROP TABLE swaps", "refused a statement (no such table: swaps)"),
        ("ALTER TABLE keys DROP COLUMN burst", "refused a statement (no such column: keys.burst)"),
        (
            "INSERT INTO routes VALUES ('r', 'no json', 1)",
            "holds a row that cannot be read, in the table routes",
        ),
        (
            "INSERT INTO routes VALUES ('r', '[1]', 1)",
            "holds a row that cannot be read, in the table routes",
        ),
        (
            "INSERT INTO routes VALUES ('r', 1, 1)",
            "holds a row that cannot be read, in the table routes",
        ),
    ],
)
def test_tables_that_somebody_has_changed_are_told(tmp_path: Path, harm: str, said: str) -> None:
    State.open(file_url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "pelton.db") as other:
        other.execute(harm).close()
    other.close()
    with pytest.raises(SettingsError) as refusal:
        open_database(file_url(tmp_path))
    assert refusal.value.message == (
        f"the database {tmp_path}/pelton.db cannot be used: The server's database {said}; "
        "restore a backup, or move the file away to begin with an empty one"
    )


def test_a_user_without_rights_is_told(postgres: Postgres) -> None:
    url = postgres.new_database()
    name = url.split("/")[3].split("?")[0]
    postgres.execute("CREATE ROLE guest LOGIN")
    postgres.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", name)
    with pytest.raises(SettingsError, match=r"refused a statement .*permission|no schema"):
        open_database(postgres.url(name, "guest"))


def test_the_short_name_of_postgresql_will_do(postgres: Postgres) -> None:
    url = postgres.new_database().replace("postgresql:", "postgres:")
    open_database(url).close()
