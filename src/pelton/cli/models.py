"""`pelton models`: what a server serves."""

from __future__ import annotations

from collections.abc import Iterable

from pelton.cli.asking import DEFAULT_URL, Timeout, Url, asking, printable
from pelton.client import ModelDescription
from pelton.specs import TensorSpec


def command(url: Url = DEFAULT_URL, timeout: Timeout = "5s") -> None:
    """List a server's models: versions, state, platform, inputs and outputs.

    Examples:
      pelton models
      pelton models --url http://robot.example:50000
    """
    with asking("pelton models", url, timeout) as client:
        found = client.models()
    if not found:
        print(f"no model is served at {url}")
        return
    _show(found)


def _show(models: Iterable[ModelDescription]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for heading in ("name", "versions", "state", "platform", "inputs", "outputs"):
        table.add_column(heading, overflow="fold")
    for model in models:
        cells = (
            printable(model.name),
            printable(", ".join(model.versions)),
            printable(model.state),
            printable(model.platform),
            _lines(model.inputs),
            _lines(model.outputs),
        )
        # Text, because a name in brackets would be taken for markup.
        table.add_row(*map(Text, cells))
    Console().print(table)


def _lines(specs: Iterable[TensorSpec]) -> str:
    """Write tensors one to a line; -1, which stands for any size, as a question mark."""
    return (
        "\n".join(
            f"{printable(spec.name)}: {printable(spec.datatype)} "
            f"[{', '.join('?' if dim == -1 else str(dim) for dim in spec.shape)}]"
            for spec in specs
        )
        or "any"
    )
