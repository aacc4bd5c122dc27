"""`pelton models`: what a server has of each model, and which version answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.client import Client, ModelDescription, VersionDescription
from pelton.errors import NotFound
from pelton.specs import TensorSpec

_DIGEST_CHARACTERS = 12

Versions = Mapping[str, Sequence[VersionDescription]]


def command(
    model: Annotated[
        str | None,
        typer.Argument(help="Only this model, with its inputs and outputs.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: as JSON.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Timeout = "5s",
) -> None:
    """List a server's models: versions, which of them answers, since when, and what became of each.

    Of one model also what it takes and gives is shown.

    Examples:
      pelton models
      pelton models digits --url http://robot.example:50000
      pelton models --json
    """
    with asking("pelton models", url, timeout, api_key) as client:
        versions = _versions(client, model)
        described = None if model is None else _description(client, model)
    if as_json:
        _print_json(versions)
    elif not versions:
        print(f"no model is there at {url}")
    else:
        _show(versions)
        if described is not None:
            _show_tensors(described)


def _versions(client: Client, model: str | None) -> Versions:
    names = [model] if model else list(dict.fromkeys(row.name for row in client.repository_index()))
    return {name: client.versions(name) for name in names}


def _description(client: Client, model: str) -> ModelDescription | None:
    """Ask what a model takes and gives; None where no version of it answers."""
    try:
        return client.model_metadata(model)
    except NotFound:
        return None


def _print_json(versions: Versions) -> None:
    rows = [
        {"model": name, "versions": [dataclasses.asdict(row) for row in of_model]}
        for name, of_model in versions.items()
    ]
    print(json.dumps(rows, indent=2))


def _show(versions: Versions) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headings: tuple[str, ...] = (
        "model",
        "version",
        "state",
        "",
        "labels",
        "published",
        "digest",
        "why not",
    )
    if not any(row.reason for of_model in versions.values() for row in of_model):
        headings = headings[:-1]
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for name, of_model in versions.items():
        for row in of_model:
            # Text, because a name in brackets would be taken for markup.
            cells = map(Text, _cells(name, row)[: len(headings)])
            table.add_row(*cells, style="bold" if row.active else "")
        table.add_section()
    Console().print(table)


def _cells(name: str, row: VersionDescription) -> tuple[str, ...]:
    when = "" if row.published_s is None else _when(row.published_s)
    digest = row.digest.removeprefix("sha256:")[:_DIGEST_CHARACTERS]
    cells = (name, str(row.version), row.state, _standing(row), ", ".join(row.labels), when, digest)
    return tuple(map(printable, (*cells, row.reason)))


def _standing(row: VersionDescription) -> str:
    """Return how a version stands to the one that answers, in words."""
    if row.active:
        return "active, on probation" if row.on_probation else "active"
    return "kept" if row.kept else ""


def _when(published_s: float) -> str:
    try:
        return datetime.fromtimestamp(published_s).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"


def _show_tensors(model: ModelDescription) -> None:
    print(f"\nplatform  {printable(model.platform)}")
    for heading, specs in (("inputs", model.inputs), ("outputs", model.outputs)):
        for number, line in enumerate(_lines(specs)):
            print(f"{'' if number else heading:<8}  {line}")


def _lines(specs: Iterable[TensorSpec]) -> list[str]:
    """Write a tensor on each line; -1, which stands for any size, as a question mark."""
    return [
        f"{printable(spec.name)}: {printable(spec.datatype)} "
        f"[{', '.join('?' if dim == -1 else str(dim) for dim in spec.shape)}]"
        for spec in specs
    ] or ["any"]
