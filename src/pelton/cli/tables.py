"""Tables for people, which are lines for programs such as `grep`: words stay whole in both."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from pelton.cli.asking import printable

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL = 10_000
"""The width where nobody looks: each row is one line there."""


def terminal() -> Console:
    """Return the standard output, as wide as it is."""
    from rich.console import Console

    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if has_width else _NO_TERMINAL)


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    console: Console,
    *,
    free: Collection[str] = (),
    bold: Collection[int] = (),
) -> None:
    """Print a table.

    Args:
        headings: of the columns.
        rows: the cells of each; what could steer a terminal is escaped.
        console: where to.
        free: headings of the columns that give way where the terminal is narrow.
        bold: rows that stand out.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in free)
    for place, cells in enumerate(rows):
        # Text, because what stands in brackets would be taken for markup.
        shown = (Text(printable(cell)) for cell in cells)
        table.add_row(*shown, style="bold" if place in bold else "")
    console.print(table)


def print_beneath(lines: Sequence[str], console: Console) -> None:
    """Print what has no room in a table, as lines that are wrapped between words."""
    for line in ("", *lines) if lines else ():
        width = console.width
        wrapped = textwrap.wrap(
            printable(line), width, subsequent_indent="  ", break_on_hyphens=False
        )
        print("\n".join(wrapped))
