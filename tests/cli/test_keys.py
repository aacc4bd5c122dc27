"""`pelton keys`: made, listed and revoked where the server keeps them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pelton.access.keyring import Keyring
from pelton.cli.commands import app
from pelton.records import Scope
from pelton.state.sqlite import FILE_NAME, file_url
from pelton.state.state import State

USED = ["--scope", "infer", "--scope", "read", "--label", "robot"]


def run(*arguments: str, env: dict[str, str] | None = None) -> Any:
    return CliRunner(env={"COLUMNS": "200", "PELTON_STATE_DIR": None, **(env or {})}).invoke(
        app, ["keys", *arguments]
    )


def kept(folder: Path) -> State:
    return State.open(file_url(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_a_key_is_shown_once_and_its_digest_kept(folder: Path) -> None:
    done = run("create", *USED, "--expires", "30d", "--state-dir", str(folder))
    assert done.exit_code == 0
    key = done.stdout.strip()
    assert "nobody can show it again" in done.stderr
    assert key not in done.stderr
    state = kept(folder)
    (found,) = state.keys.list()
    assert (found.label, found.scopes) == ("robot", {Scope.INFER, Scope.READ})
    assert found.expires_s == pytest.approx(found.created_s + 30 * 86400, abs=60)
    caller = Keyring([found]).identify({"x-api-key": key}, found.created_s)
    assert caller.key_id == found.id
    (row,) = state.audit.list(limit=10)
    assert (row.change.actor, row.change.action) == ("local", "keys.create")
    assert row.change.subject == found.id
    state.close()
    secret = key.rpartition("_")[2]
    assert secret.encode() not in (folder / FILE_NAME).read_bytes()
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert secret not in run("list", "--state-dir", str(folder)).output


def test_keys_are_listed_for_people_and_for_programs(folder: Path) -> None:
    place = ["--state-dir", str(folder)]
    rate = ["--requests-per-s", "2.5", "--burst", "9"]
    run("create", "-s", "infer", "-l", "[red]robot[/red]", *rate, *place)
    first = json.loads(run("create", *USED, "--json", *place).stdout)
    assert set(first) >= {"key", "id", "label", "scopes"}
    assert run("revoke", first["id"], *place).exit_code == 0
    table = run("list", *place).stdout
    for told in ("[red]robot[/red]", "2.5/s, 9 at once", "infer, read", "revoked", "good", "never"):
        assert told in table
    rows = json.loads(run("list", "--json", *place).stdout)
    assert [row["state"] for row in rows] == ["good", "revoked"]
    assert [row["burst"] for row in rows] == [9, None]
    assert "key" not in rows[1]


def test_a_whole_key_can_be_revoked(folder: Path) -> None:
    place = ["--state-dir", str(folder)]
    key = run("create", *USED, *place).stdout.strip()
    done = run("revoke", key, *place)
    assert "is revoked" in done.output
    assert key not in done.output
    again = run("revoke", key, *place)
    assert (again.exit_code, again.stderr.count("revoked already")) == (1, 1)


def test_the_place_may_stand_in_the_environment(folder: Path) -> None:
    env = {"PELTON_STATE_DIR": str(folder)}
    assert run("create", *USED, env=env).exit_code == 0
    assert "robot" in run("list", env=env).stdout
    url = {"PELTON_DATABASE_URL": file_url(folder)}
    assert "robot" in run("list", env=url).stdout


def test_an_open_server_and_the_command_line_see_each_other(folder: Path) -> None:
    state = kept(folder)
    before = state.keys.generation()
    key = run("create", *USED, "--state-dir", str(folder)).stdout.strip()
    assert state.keys.generation() > before
    assert [each.id for each in state.keys.list()] == [key.split("_")[1]]
    state.close()


def test_no_key_is_said_so(folder: Path) -> None:
    kept(folder).close()
    assert "there is no key" in run("list", "--state-dir", str(folder)).stdout
    assert run("list", "--json", "--state-dir", str(folder)).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list"], "--state-dir or --database-url"),
        (["create", *USED], "--state-dir or --database-url"),
        (["list", "--state-dir", "/nowhere/at/all"], "no server has kept anything in"),
        (["revoke", "abcdefghijkl", "--state-dir", "/nowhere"], "no server has kept anything"),
        (["list", "--database-url", "mysql://a:secret@b/c"], "the database URL begins with"),
    ],
)
def test_a_place_that_is_none_is_told(arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"pelton keys {arguments[0]}: ")
    assert told in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scope", "inver", "--label", "a"], "'inver' is no scope; there are: infer"),
        (["--scope", "infer", "--label", ""], "a label of 1 to 100"),
        ([*USED, "--expires", "soon"], "--expires is 'soon'"),
        ([*USED, "--expires", "0d"], "later than now"),
        ([*USED, "--requests-per-s", "0"], "requests per second"),
    ],
)
def test_a_wish_that_makes_no_sense_is_told(folder: Path, arguments, told: str) -> None:
    done = run("create", *arguments, "--state-dir", str(folder))
    assert done.exit_code == 2
    assert told in done.stderr
    assert not list(kept(folder).keys.list())


@pytest.mark.parametrize(("name", "code"), [("robot", 2), ("abcdefghijkl", 1)])
def test_what_cannot_be_revoked_is_told(folder: Path, name: str, code: int) -> None:
    kept(folder).close()
    assert run("revoke", name, "--state-dir", str(folder)).exit_code == code
