"""`pelton routes`: which version answers whom, shown and changed on a running server."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pelton.cli import route_options as options
from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.cli.route_changes import RouteChange, changed, read_policy
from pelton.cli.route_words import in_words
from pelton.cli.tables import print_beneath, print_table, terminal
from pelton.client import Client
from pelton.client.address import quoted
from pelton.errors import NotFound

app = typer.Typer(
    help="Show and change which version of a model answers: list, show, set, delete.",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Of the route: usually that of its model.")
]

AsJson = Annotated[bool, typer.Option("--json", help="For programs: whole, as JSON.")]


@app.command("list")
def every(
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
) -> None:
    """List the routes that are set.

    A name without a route is answered by the latest version of the model of that name.
    """
    with asking("pelton routes list", url, timeout, api_key) as client:
        rows = client.ask_json("GET", "/v2/routes")["routes"]
    if as_json:
        _print_json(rows)
    elif not rows:
        print("no route is set: each model is answered by its latest version")
    else:
        _show(rows)


@app.command("show")
def one(
    name: Name, url: Url = DEFAULT_URL, timeout: Timeout = "10s", api_key: ApiKey = None
) -> None:
    """Show one route whole, as JSON, in the form that `pelton routes set NAME FILE` takes.

    Examples:
      pelton routes show digits > digits.json
    """
    with asking("pelton routes show", url, timeout, api_key) as client:
        _print_json(client.ask_json("GET", _path(name))["policy"])


@app.command("set")
def put(
    name: Name,
    file: options.PolicyFile = None,
    latest: options.Latest = False,
    pin: options.Pin = None,
    split: options.Split = None,
    enrolled: options.Enrolled = None,
    salt: options.Salt = None,
    sticky: options.Sticky = None,
    shadow: options.Shadow = None,
    model: options.Model = None,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
) -> None:
    """Set a route, and show what it was and what it is now.

    What is not said stays as it is; a FILE replaces all. A version is a number or a label.
    If somebody else changes the route at the same moment, nothing is done.

    Examples:
      pelton routes set digits --latest
      pelton routes set digits --pin 3
      pelton routes set digits --split 2=90,3=10
      pelton routes set digits --split stable=1,canary=1 --enrolled 0.02
      pelton routes set digits --enrolled 0.1
      pelton routes set digits --shadow 4=0.05
      pelton routes set digits digits.json
    """
    change = RouteChange(latest, pin, split, enrolled, salt, sticky, shadow, model)
    with asking("pelton routes set", url, timeout, api_key) as client:
        before = _found(client, name)
        whole = None if file is None else read_policy(file, change)
        policy = whole or changed(None if before is None else before["policy"], change)
        after = client.ask_json("PUT", _path(name), policy, headers=_only_if(before))
        _show_change(name, before, after)


@app.command("delete")
def delete(
    name: Name, url: Url = DEFAULT_URL, timeout: Timeout = "10s", api_key: ApiKey = None
) -> None:
    """Delete a route: the latest version of the model of its name answers again."""
    with asking("pelton routes delete", url, timeout, api_key) as client:
        _show_change(name, client.ask_json("DELETE", _path(name)), None)


def _path(name: str) -> str:
    return f"/v2/routes/{quoted(name, 'name of a route')}"


def _found(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return client.ask_json("GET", _path(name))
    except NotFound:
        return None


def _only_if(before: dict[str, Any] | None) -> dict[str, str]:
    """Return the condition under which what is shown as `before` is what it was before."""
    if before is None:
        return {"If-None-Match": "*"}
    return {"If-Match": f'"{before["revision"]}"'}


def _show(rows: list[dict[str, Any]]) -> None:
    console = terminal()
    cells = [(row["name"], str(row["revision"]), in_words(row["policy"])) for row in rows]
    print_table(("route", "revision", "answered by"), cells, console, free=("route", "answered by"))
    faults = [
        f"{row['name']} cannot be followed: {row['problem']}" for row in rows if row["problem"]
    ]
    print_beneath(faults, console)


def _show_change(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    typer.echo(printable(name))
    for when, row in (("before", before), ("now", after)):
        told = "no route: the latest version" if row is None else in_words(row["policy"])
        typer.echo(f"  {when:<7}{printable(told)}")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
