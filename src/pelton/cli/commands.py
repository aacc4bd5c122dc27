"""The table of commands."""

from __future__ import annotations

import typer

import pelton
from pelton.cli import (
    audit,
    doctor,
    health,
    infer,
    keys,
    labels,
    models,
    push,
    rollback,
    routes,
    serve,
    show_settings,
)

app = typer.Typer(
    name="pelton",
    help="Serve trained models: arrays in, answers out, at nearly the speed of the wire.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("serve")(serve.command)
app.command("infer")(infer.command)
app.command("health")(health.command)
app.command("models")(models.command)
app.command("push")(push.command)
app.command("rollback")(rollback.command)
app.add_typer(keys.app, name="keys")
app.add_typer(routes.app, name="routes")
app.add_typer(labels.app, name="labels")
app.command("audit")(audit.command)
app.command("doctor")(doctor.command)
app.command("settings")(show_settings.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pelton {pelton.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Serve trained models: arrays in, answers out, at nearly the speed of the wire."""
