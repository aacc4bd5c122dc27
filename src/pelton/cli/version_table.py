"""Versions of models as a table, and beneath it why some of them do not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pelton.cli.tables import print_beneath, print_table
from pelton.client import VersionDescription

if TYPE_CHECKING:
    from rich.console import Console

_HEADINGS = ("model", "version", "state", "", "labels", "published", "digest")
_MAY_LACK = ("labels", "published", "digest")
_DIGEST_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What there is of one model.

    Attributes:
        name: its name.
        versions: all that are known.
        reason: why it cannot be served at all, where it has no version that could say so.
    """

    name: str
    versions: Sequence[VersionDescription] = ()
    reason: str = ""


def show(models: Sequence[ListedModel], console: Console) -> None:
    """Print a table of versions; reasons stand in lines beneath, where they have room."""
    rows = [row for model in models for row in _rows(model)]
    shown = [
        place
        for place, heading in enumerate(_HEADINGS)
        if heading not in _MAY_LACK or any(cells[place] for cells, _ in rows)
    ]
    print_table(
        [_HEADINGS[place] for place in shown],
        [[cells[place] for place in shown] for cells, _ in rows],
        console,
        free=("model", "labels"),
        bold=[place for place, (_, active) in enumerate(rows) if active],
    )
    print_beneath([line for model in models for line in _reasons(model)], console)


def _rows(model: ListedModel) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of each version, and whether it answers."""
    if not model.versions:
        yield (model.name, "", "failed", "", "", "", ""), False
    for row in model.versions:
        when = "" if row.published_s is None else _when(row.published_s)
        digest = row.digest.removeprefix("sha256:")[:_DIGEST_CHARACTERS]
        labels = ", ".join(row.labels)
        cells = (model.name, str(row.version), row.state, _standing(row), labels, when, digest)
        yield cells, row.active


def _standing(row: VersionDescription) -> str:
    """Return how a version stands to the one that answers, in words."""
    if row.active:
        return "on probation" if row.on_probation else "active"
    return "kept" if row.kept else ""


def _reasons(model: ListedModel) -> Iterator[str]:
    """Yield why versions do not answer; those that have the same reason share a line."""
    if model.reason:
        yield f"{model.name}: {model.reason}"
    versions: dict[str, list[str]] = {}
    for row in model.versions:
        if row.reason not in ("", row.state):
            versions.setdefault(row.reason, []).append(str(row.version))
    for reason, numbers in versions.items():
        yield f"{model.name} {', '.join(numbers)}: {reason}"


def _when(published_s: float) -> str:
    try:
        return datetime.fromtimestamp(published_s).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"
