"""`pelton keys`: keys made, listed and revoked on the server's machine, whether it runs or not."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pelton.cli.asking import printable
from pelton.cli.exit_codes import FAILED, WRONG_USE
from pelton.cli.tables import print_table, terminal
from pelton.errors import Code, PeltonError, SettingsError
from pelton.setting_values import parse_duration

if TYPE_CHECKING:
    from pelton.records import Key
    from pelton.servers.key_control import Keys

app = typer.Typer(
    help="Make, list and revoke API keys, where the server keeps them.", no_args_is_help=True
)

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        envvar="PELTON_STATE_DIR",
        show_default=False,
        help="The server's state_dir.",
    ),
]

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        envvar="PELTON_DATABASE_URL",
        show_default=False,
        show_envvar=False,
        help="The server's database_url, if it has one; better in PELTON_DATABASE_URL, since "
        "others can read it here.",
    ),
]

Scopes = Annotated[
    list[str],
    typer.Option(
        "--scope",
        "-s",
        metavar="SCOPE",
        help="What it may be used for: infer, read, models:write, traffic, tasks, admin or "
        "pickle:unsafe. Repeatable.",
    ),
]

Expires = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", show_default=False, help="When it ends: 30d, 12h; else never."
    ),
]

RequestsPerS = Annotated[
    float | None,
    typer.Option(show_default=False, help="Requests per second to each route; else any number."),
]

Burst = Annotated[
    int | None, typer.Option(show_default=False, help="How many of those may come at once.")
]

AsJson = Annotated[bool, typer.Option("--json", help="For programs: as JSON.")]

_DAYS = re.compile(r"([0-9]{1,5})d")


@app.command("create")
def create(
    scope: Scopes,
    label: Annotated[str, typer.Option("--label", "-l", help="What you call it.")],
    expires: Expires = None,
    requests_per_s: RequestsPerS = None,
    burst: Burst = None,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key, and show it: this once, and never again.

    A running server takes it within a second.

    Examples:
      pelton keys create --scope infer --scope read --label robot --state-dir state
      pelton keys create -s admin -l operator --expires 30d --state-dir state
    """
    from pelton.servers.key_control import LOCAL, KeyWish, as_plain, scopes_of

    with _kept("pelton keys create", state_dir, database_url, may_make=True) as keys:
        ends_s = None if expires is None else time.time() + _seconds(expires)
        wish = KeyWish(label, scopes_of(scope), ends_s, requests_per_s, burst)
        new = keys.create(wish, LOCAL)
    if as_json:
        typer.echo(json.dumps({"key": new.text, **as_plain(new.key)}))
        return
    typer.echo(new.text)
    print(
        f"This is the key {printable(new.key.label)!r}; nobody can show it again. "
        f"Revoke it with: pelton keys revoke {new.key.id}",
        file=sys.stderr,
    )


@app.command("list")
def every(
    as_json: AsJson = False, state_dir: StateDir = None, database_url: DatabaseUrl = None
) -> None:
    """List all keys that were ever made, without their secrets.

    Examples:
      pelton keys list --state-dir state
    """
    from pelton.servers.key_control import as_plain, state_of

    with _kept("pelton keys list", state_dir, database_url) as keys:
        found = keys.list()
    now_s = time.time()
    if as_json:
        rows = [{**as_plain(key), "state": state_of(key, now_s)} for key in found]
        typer.echo(json.dumps(rows, indent=2))
    elif not found:
        print("there is no key, so nobody needs one; make one with `pelton keys create`")
    else:
        _show(found, now_s)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="As `pelton keys list` shows it.")],
    state_dir: StateDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Revoke a key for good; a running server refuses it within a second.

    Examples:
      pelton keys revoke k3v9a0x7q2mb --state-dir state
    """
    from pelton.servers.key_control import LOCAL

    with _kept("pelton keys revoke", state_dir, database_url) as keys:
        revoked = keys.revoke(key, LOCAL)
    print(f"the key {revoked.id} ({printable(revoked.label)}) is revoked")


@contextmanager
def _kept(
    command: str, folder: Path | None, url: str | None, may_make: bool = False
) -> Iterator[Keys]:
    """Open the keys where the server keeps them; what goes wrong is one sentence."""
    try:
        place = _place(folder, url, may_make)
        from pelton.servers.key_control import Keys
        from pelton.state.state import State

        state = State.open(place)
        try:
            yield Keys(state.keys)
        finally:
            state.close()
    except PeltonError as error:
        print(f"{command}: {printable(error.message)}", file=sys.stderr)
        wrong_use = error.code in (Code.BAD_SETTING, Code.INVALID_INPUT)
        raise typer.Exit(WRONG_USE if wrong_use else FAILED) from None


def _place(folder: Path | None, url: str | None, may_make: bool) -> str:
    if url is not None:
        return url
    if folder is None:
        raise SettingsError(
            "say where the server keeps its keys, with its own --state-dir or --database-url"
        )
    from pelton.state.sqlite import FILE_NAME, file_url

    if not may_make and not (folder / FILE_NAME).exists():
        raise SettingsError(f"no server has kept anything in {folder}; is this its --state-dir?")
    return file_url(folder)


def _seconds(written: str) -> float:
    days = _DAYS.fullmatch(written.strip())
    if days is not None:
        return int(days[1]) * 86400.0
    try:
        return parse_duration(written)
    except ValueError:
        raise SettingsError(
            f"--expires is {written!r:.40}; it has to be a duration such as 30d or 12h"
        ) from None


def _show(keys: Iterable[Key], now_s: float) -> None:
    from pelton.servers.key_control import state_of

    rows = [
        (
            key.id,
            key.label,
            ", ".join(sorted(key.scopes)),
            _moment(key.created_s),
            "never" if key.expires_s is None else _moment(key.expires_s),
            _rate(key),
            state_of(key, now_s),
        )
        for key in keys
    ]
    headings = ("id", "label", "scopes", "made (UTC)", "ends (UTC)", "rate", "state")
    print_table(headings, rows, terminal(), free=("label", "scopes", "rate"))


def _rate(key: Key) -> str:
    if key.requests_per_s is None:
        return "any"
    return f"{key.requests_per_s:g}/s, {key.burst} at once"


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at_s))
