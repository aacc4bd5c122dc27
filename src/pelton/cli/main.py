"""The `pelton` command: registers a file per command."""

from __future__ import annotations

import sys
from typing import NoReturn

from pelton.cli.exit_codes import WRONG_USE

INSTALL_HINT = (
    "pelton: the command line needs more than the client library; "
    "install it with: pip install 'pelton[server]'"
)


def main() -> NoReturn:
    """Run the command line."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        print(INSTALL_HINT, file=sys.stderr)
        sys.exit(WRONG_USE)
    from pelton.cli.commands import app

    app()
    raise AssertionError("typer ends the process")
