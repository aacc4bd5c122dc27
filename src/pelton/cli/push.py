"""`pelton push`: send a model to a running server, and watch it pass the gates."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Url, asking, printable, seconds
from pelton.client import Published, PushProgress
from pelton.client.pushing import RECEIVE
from pelton.errors import InvalidRequest

_VERSION = re.compile(r"[1-9][0-9]*")


def command(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Folder of one version, a model's single file, or a .tar of either.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Name of the model; by default that of the folder or file."),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Which version it becomes; by default the next one.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="For everything, such as 10m.")
    ] = "1h",
) -> None:
    """Publish a new version of a model: it answers once it has passed all gates.

    One that a gate refuses changes nothing; the sentence says which gate refused it and why.

    Examples:
      pelton push models/digits/3
      pelton push policy.tar --model policy --url http://robot.example:50000
      pelton push digits.onnx --version 12
    """
    with asking("pelton push", url, timeout, api_key) as client:
        name = name_of(path) if model is None else model
        with _Display(name) as display:
            published = client.push(path, name, version, display, timeout_s=seconds(timeout))
        _tell(published)


def name_of(path: Path) -> str:
    """Return the name of the model at a path: of its folder, above that of a version, or file.

    Raises:
        InvalidRequest: it has none.
    """
    whole = path.resolve()
    if whole.is_dir():
        name = whole.parent.name if _VERSION.fullmatch(whole.name) else whole.name
    else:
        name = whole.stem
    if not name:
        raise InvalidRequest(f"{path} does not tell the model's name; say --model NAME")
    return name


def _tell(published: Published) -> None:
    version = f"version {published.version}"
    typer.echo(f"{printable(published.model)}: {version} answers now")
    typer.echo(f"  digest  {printable(published.digest)}")
    for name, value in sorted(published.numbers.items()):
        typer.echo(f"  {printable(str(name))}  {printable(_shown(value))}")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Display:
    """Shows a push: a bar while it is sent, then a line for each gate that is passed."""

    def __init__(self, model: str) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(escape(f"sending {printable(model)}"), total=None)
        self._gate = ""
        self._begun_s = 0.0

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._gate:
            self._end_gate("passed" if kind is None else "not passed")
        self._bar.stop()

    def __call__(self, progress: PushProgress) -> None:
        """Show how far the push has come."""
        if progress.gate == RECEIVE:
            self._bar.update(self._task, total=progress.size_bytes, completed=progress.sent_bytes)
        if progress.gate != self._gate:
            if self._gate:
                self._end_gate("passed")
            self._gate, self._begun_s = progress.gate, time.monotonic()
            if progress.gate != RECEIVE:
                self._bar.update(self._task, visible=False)

    def _end_gate(self, result: str) -> None:
        took_s = time.monotonic() - self._begun_s
        self._console.print(f"{printable(self._gate):<8} {result:<10} {took_s:7.2f} s")
