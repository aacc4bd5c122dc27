"""`pelton labels`: names for versions, such as `stable`, shown and moved on a running server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.client import Client
from pelton.client.address import quoted

app = typer.Typer(
    help="Show and move the labels of a model's versions: list, set, delete.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Its name.")]

Label = Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")]


@app.command("list")
def every(
    model: Model, url: Url = DEFAULT_URL, timeout: Timeout = "10s", api_key: ApiKey = None
) -> None:
    """List the labels of a model."""
    with asking("pelton labels list", url, timeout, api_key) as client:
        _show(client.ask_json("GET", _path(model)))


@app.command("set")
def put(
    model: Model,
    label: Label,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="What it stands for from now on.")
    ],
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
) -> None:
    """Have a label stand for a version; every route that names the label follows at once.

    Examples:
      pelton labels set digits canary 4
      pelton labels set digits stable 4
    """
    with asking("pelton labels set", url, timeout, api_key) as client:
        before = _before(client, model)
        after = client.ask_json("PUT", _path(model, label), {"version": version})
    _show(after, before)


@app.command("delete")
def delete(
    model: Model,
    label: Label,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
) -> None:
    """Delete a label that no route names."""
    with asking("pelton labels delete", url, timeout, api_key) as client:
        before = _before(client, model)
        after = client.ask_json("DELETE", _path(model, label))
    _show(after, before)


def _path(model: str, label: str | None = None) -> str:
    path = f"/v2/repository/models/{quoted(model, 'model name')}/labels"
    return path if label is None else f"{path}/{quoted(label, 'label')}"


def _before(client: Client, model: str) -> dict[str, Any]:
    return dict(client.ask_json("GET", _path(model))["labels"])


def _show(told: dict[str, Any], before: dict[str, Any] | None = None) -> None:
    """Print the labels, one to a line, with what each stood for if that is known and another."""
    labels = told["labels"]
    known = labels if before is None else before
    if not {**known, **labels}:
        print(f"{printable(told['model'])} has no labels")
    for label in sorted({**known, **labels}):
        old, new = known.get(label), labels.get(label)
        note = "" if old == new else f"  (was {'not set' if old is None else old})"
        typer.echo(f"{printable(label)}  {'deleted' if new is None else new}{note}")
