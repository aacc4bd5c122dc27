"""What there is of each model, as rows for those who ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pelton.engine.model_states import State
from pelton.lifecycle.shelf import Shelf
from pelton.own_paths import without_paths
from pelton.records import PublishedVersion
from pelton.servers.model_control import IndexRow, VersionRow
from pelton.specs import ModelSpec

ASLEEP = "it is not in memory, and is loaded again when it is asked for"
UNLOADED = "unloaded"


def index_rows(shelf: Shelf, root: Path) -> Iterator[IndexRow]:
    """Yield a row for each version of a model, ascending; one without a version if it has none.

    Args:
        shelf: the model.
        root: the folder of models, which is nobody's business: no reason holds a path.
    """
    numbers = _numbers(shelf)
    if not numbers and shelf.found.broken is not None:
        reason = without_paths(shelf.found.broken.message, root)
        yield IndexRow(shelf.name, "", "UNAVAILABLE", reason)
    for number in numbers:
        state, reason = _state(shelf, number)
        told = {"": "", "asleep": "UNAVAILABLE", "failed": "UNAVAILABLE"}.get(state)
        live = shelf.live(number)
        if told is None:
            told = live.standing.index_name if live is not None else "UNAVAILABLE"
        yield IndexRow(shelf.name, str(number), told, without_paths(reason, root))


def version_rows(
    shelf: Shelf, rows: Iterable[PublishedVersion], labels: Mapping[str, int], root: Path
) -> list[VersionRow]:
    """Return a row for each version of a model that is or was there, ascending.

    Args:
        shelf: the model.
        rows: what was published of it.
        labels: label -> version.
        root: the folder of models, as in `index_rows`.
    """
    published = {row.version: row for row in rows}
    told = (
        _version_row(shelf, number, published.get(number), labels)
        for number in sorted({*_numbers(shelf), *published})
    )
    return [replace(row, reason=without_paths(row.reason, root)) for row in told]


def _version_row(
    shelf: Shelf, number: int, row: PublishedVersion | None, labels: Mapping[str, int]
) -> VersionRow:
    live, swap = shelf.live(number), shelf.swap
    state, reason = _state(shelf, number)
    if live is None and row is not None and (row.reason or number not in shelf.found.versions):
        state, reason = str(row.state), row.reason
    active = swap is not None and swap.served is not None and swap.served is live
    digest = row.digest if row is not None else live.spec.digest if live is not None else ""
    return VersionRow(
        version=number,
        state=state or "unloaded",
        reason=reason,
        digest=digest,
        published_s=None if row is None else row.published_s,
        active=active,
        kept=swap is not None and swap.kept is not None and swap.kept is live,
        on_probation=active and swap is not None and swap.on_probation,
        labels=tuple(sorted(label for label, version in labels.items() if version == number)),
    )


def _numbers(shelf: Shelf) -> list[int]:
    live = {one.number for one in shelf.versions}
    return sorted({*shelf.found.versions, *shelf.failed, *live})


def _state(shelf: Shelf, number: int) -> tuple[str, str]:
    """Return how far a version is, in small letters, and why it is not ready.

    The state is empty for one that was never loaded, and has nothing wrong with it.
    """
    live = shelf.live(number)
    if live is not None:
        if live.standing.state is State.READY and live.model is None:
            return "asleep", ASLEEP
        return str(live.standing.state).lower(), ""
    if number in shelf.failed:
        return "failed", shelf.failed[number]
    found = shelf.found.versions.get(number)
    if found is not None and not isinstance(found, ModelSpec):
        return "failed", found.message
    if number in shelf.were_loaded:
        return "unloaded", UNLOADED
    return "", shelf.found.reason(number)
