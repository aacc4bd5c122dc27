"""`pelton rollback`: have the version answer that answered before."""

from __future__ import annotations

from typing import Annotated

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable


def command(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Timeout = "60s",
) -> None:
    """Have the version of a model answer that answered before the one that does now.

    That takes no time while the version before is kept loaded; `pelton models` shows whether it
    is.

    Examples:
      pelton rollback digits
    """
    with asking("pelton rollback", url, timeout, api_key) as client:
        version = client.rollback(model)
    typer.echo(f"{printable(model)}: version {version} answers now")
