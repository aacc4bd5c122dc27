"""What the commands that ask a running server have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pelton.cli.exit_codes import FAILED, WRONG_USE
from pelton.client import Client, Timeouts
from pelton.client.options import DEFAULT_URL
from pelton.errors import PeltonError, SettingsError
from pelton.setting_values import parse_duration

Url = Annotated[str, typer.Option("--url", help="Where the server is.")]

Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="For everything, such as 10s or 500ms.")
]

ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        show_default=False,
        help="A key of the server; better in PELTON_API_KEY, since others can read it here.",
    ),
]

__all__ = ["DEFAULT_URL", "ApiKey", "Timeout", "Url", "asking", "printable", "seconds"]


@contextmanager
def asking(command: str, url: str, timeout: str, api_key: str | None = None) -> Iterator[Client]:
    """Give a client, and turn what goes wrong with it into one sentence and an exit code.

    Args:
        command: how the sentence begins, such as `pelton infer`.
        url: the server.
        timeout: how long each request may take, as it was typed.
        api_key: a key of the server; None for the one in the environment, if there is any.
    """
    try:
        limits = Timeouts(request_s=seconds(timeout))
        with Client(url, timeouts=limits, api_key=api_key) as client:
            yield client
    except PeltonError as error:
        print(f"{command}: {printable(error.message)}", file=sys.stderr)
        code = WRONG_USE if isinstance(error, SettingsError) else FAILED
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def printable(text: str) -> str:
    """Escape what could steer a terminal: the text may come from anybody's server."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def seconds(timeout: str) -> float:
    """Read how long something may take, as it was typed.

    Raises:
        SettingsError: it is no duration.
    """
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise SettingsError(f"--timeout is {timeout!r:.40}; it has to be {error}") from None
