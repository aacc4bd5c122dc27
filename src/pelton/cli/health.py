"""`pelton health`: whether a server lives, takes work, and with which models."""

from __future__ import annotations

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking, printable
from pelton.cli.exit_codes import FAILED


def command(url: Url = DEFAULT_URL, timeout: Timeout = "5s", api_key: ApiKey = None) -> None:
    """Say whether a server lives and takes work.

    Exits with 0 when it is ready, and with 1 when it is not or cannot be reached.

    Examples:
      pelton health
      pelton health --url https://robot.example/pelton
      until pelton health --timeout 1s; do sleep 1; done
    """
    with asking("pelton health", url, timeout, api_key) as client:
        live, ready = client.server_live(), client.server_ready()
        typer.echo(f"live    {_yes(live)}")
        typer.echo(f"ready   {_yes(ready)}")
        for model in client.models():
            told = " ".join((model.name, *model.versions, model.state))
            typer.echo(f"model   {printable(told)}")
        if not ready:
            raise typer.Exit(FAILED)


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"
