"""`pelton audit`: who changed what and when on a running server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.cli.route_words import in_words
from pelton.client import Client

PAGE_ROWS = 500

SHOWN_CHARACTERS = 120
"""Of what stood there before and after; `--json` has all of it."""


def command(
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 20,
    before: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="Only those before this one.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only by the key with this id.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="Only of this kind, such as route.set or keys.create.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of this route, model or key.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: whole, one JSON object to a line.")
    ] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
) -> None:
    """Show who changed what and when, the newest change first.

    Examples:
      pelton audit
      pelton audit --subject digits --limit 5
      pelton audit --action route.set --json
    """
    wanted = {"actor": actor, "action": action, "subject": subject}
    said = {name: value for name, value in wanted.items() if value is not None}
    with asking("pelton audit", url, timeout, api_key) as client:
        rows = list(_rows(client, limit, before, said))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
    elif not rows:
        print("nothing was changed" + (" that fits" if said or before else ""))
    else:
        _show(rows)


def _rows(
    client: Client, limit: int, before: int | None, said: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Ask page by page, until there are enough or there are no more."""
    left = limit
    while left:
        page: dict[str, Any] = {"limit": min(left, PAGE_ROWS), **said}
        if before is not None:
            page["before"] = before
        answer = client.ask_json("GET", f"/v2/audit?{urlencode(page)}")
        yield from answer["changes"]
        left -= len(answer["changes"])
        before = answer["before"]
        if before is None:
            return


def _show(rows: list[dict[str, Any]]) -> None:
    """Print each change on three lines: who did what and when, what was there, what is."""
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at_s"]))
        who = row["actor"] or "anybody"
        head = f"{row['number']}  {when}  {row['action']}  {row['subject']}  by {who}"
        typer.echo(printable(head))
        typer.echo(f"    before  {printable(_values(row['before']))}")
        typer.echo(f"    after   {printable(_values(row['after']))}")


def _values(values: dict[str, Any] | None) -> str:
    """Write plain values on one line, and cut it where it is too long."""
    if values is None:
        return "-"
    told = in_words(values) if "policy" in values else _listed(values)
    return told if len(told) <= SHOWN_CHARACTERS else told[: SHOWN_CHARACTERS - 4] + " ..."


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )
