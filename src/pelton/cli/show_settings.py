"""`pelton settings`: every setting with its flag, variable, default and meaning."""

from __future__ import annotations

from typing import Annotated

import typer

from pelton.settings import SETTINGS
from pelton.settings_docs import render, shown


def command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md instead.")
    ] = False,
) -> None:
    """List every setting: its name in a --config file, its flag, its variable, its default."""
    if markdown:
        typer.echo(render(), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Settings", title_justify="left")
    for heading in ("name", "environment", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for setting in SETTINGS:
        variable = "in the file only" if setting.file_only else setting.variable
        table.add_row(setting.name, variable, shown(setting, setting.default), setting.help)
    Console().print(table)
