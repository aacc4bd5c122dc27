"""`pelton models`: what a server has of each model, and which version answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.cli.tables import terminal
from pelton.cli.version_table import ListedModel, show
from pelton.client import Client, ModelDescription
from pelton.errors import NotFound
from pelton.specs import TensorSpec


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
        models = _listed(client) if model is None else [_one(client, model)]
        described = None if model is None else _description(client, model)
    if as_json:
        _print_json(models)
    elif not models:
        print(f"no model is there at {url}")
    else:
        show(models, terminal())
        if described is not None:
            _show_tensors(described)


def _listed(client: Client) -> list[ListedModel]:
    """Return all models, in the order of the index."""
    index = client.repository_index()
    # A model that has no version at all can only be told about by the index.
    reasons = {row.name: "" if row.version else row.reason for row in index}
    return [_one(client, name, reason) for name, reason in reasons.items()]


def _one(client: Client, name: str, reason: str = "") -> ListedModel:
    return ListedModel(name, client.versions(name), reason)


def _description(client: Client, model: str) -> ModelDescription | None:
    """Ask what a model takes and gives; None where no version of it answers."""
    try:
        return client.model_metadata(model)
    except NotFound:
        return None


def _print_json(models: Sequence[ListedModel]) -> None:
    rows = [
        {
            "model": model.name,
            "versions": [dataclasses.asdict(row) for row in model.versions],
            **({"reason": model.reason} if model.reason else {}),
        }
        for model in models
    ]
    print(json.dumps(rows, indent=2))


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
