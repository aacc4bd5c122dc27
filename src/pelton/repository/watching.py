"""What has changed in a folder of models between two looks at it.

    seen = Watched.at_start(look(root))          # what has been loaded
    ...
    seen, changes = compare(seen, look(root))    # again and again

A copy under way changes from look to look. So a version, or the files that stand beside the
versions of a model, counts as changed once two looks in a row agree on it; how far apart they are
is for the caller to say. A copy that stalls for longer is taken for whole: who cannot copy fast
should copy into a folder whose name begins with a dot, and rename it.

`look` reads the folder; all else is a pure function of what it returned.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pelton.errors import LoadFailed
from pelton.repository.layout import VERSION

MAX_FILES = 100_000
"""Most files that one look takes in."""

MAX_DEPTH = 32
"""How deep it looks into the folders of a model."""


class Stamp(NamedTuple):
    """What tells a file from what it was before, without reading it.

    Attributes:
        path: its path below the folder of models.
        modified_ns: time of its last change, in nanoseconds.
        size_bytes: its size.
        inode: its number in the file system.
    """

    path: str
    modified_ns: int
    size_bytes: int
    inode: int


class Place(NamedTuple):
    """A version of a model, or the files beside its versions.

    Attributes:
        model: name of the model's folder.
        version: the version; None for what stands beside: `model.toml`, `config.pbtxt`, files of
            labels, and the model itself where it has no folders of versions.
    """

    model: str
    version: int | None


Snapshot = Mapping[Place, frozenset[Stamp]]
"""What one look saw; a place without a file is not in it."""


class Kind(enum.StrEnum):
    """What happened to a place."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Seen(NamedTuple):
    """One change.

    Attributes:
        place: what changed.
        kind: how.
    """

    place: Place
    kind: Kind


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of a folder of models.

    Attributes:
        settled: what has been told so far.
        last: what the last look saw.
    """

    settled: Snapshot
    last: Snapshot

    @classmethod
    def at_start(cls, first: Snapshot) -> Watched:
        """Return what is known after the models of a first look have been loaded."""
        return cls(first, first)


def compare(watched: Watched, now: Snapshot) -> tuple[Watched, list[Seen]]:
    """Tell what has changed and come to rest since it was told last.

    Args:
        watched: what was known.
        now: what a new look saw.

    Returns:
        What is known now, and the changes in the order of models and versions; what stands beside
        the versions of a model comes before them.
    """
    settled, changes = dict(watched.settled), []
    for place in sorted({*settled, *now}, key=lambda place: (place.model, place.version or 0)):
        before, after = settled.get(place), now.get(place)
        if after == before or after != watched.last.get(place):
            continue
        if after is None:
            del settled[place]
            changes.append(Seen(place, Kind.REMOVED))
        else:
            settled[place] = after
            changes.append(Seen(place, Kind.CHANGED if before else Kind.ADDED))
    return Watched(settled, now), changes


def look(root: Path) -> Snapshot:
    """Look at a folder of models; links are followed, what is hidden is passed over.

    Args:
        root: a folder of folders of models.

    Raises:
        LoadFailed: the folder cannot be read, or has too many files. It is not taken for empty
            then, for a disk that went away took no decision to unload anything.
    """
    try:
        models = _visible(root)
    except OSError as error:
        raise LoadFailed(f"the folder of models cannot be read: {error.strerror}") from error
    places: dict[Place, set[Stamp]] = {}
    files = 0
    for model in models:
        for place, stamp in _in_model(model):
            files += 1
            if files > MAX_FILES:
                raise LoadFailed(f"the folder of models has more than {MAX_FILES} files")
            places.setdefault(place, set()).add(stamp)
    return {place: frozenset(stamps) for place, stamps in places.items()}


def _in_model(model: Path) -> Iterator[tuple[Place, Stamp]]:
    for entry in _listed(model):
        is_version = VERSION.fullmatch(entry.name) and _is_folder(entry)
        place = Place(model.name, int(entry.name) if is_version else None)
        for stamp in _stamps(entry, f"{model.name}/{entry.name}", set()):
            yield place, stamp


def _stamps(path: Path, told: str, been: set[tuple[int, int]]) -> Iterator[Stamp]:
    """Yield the stamps of a file, or of all files in a folder.

    Args:
        path: the file or folder.
        told: its path below the folder of models.
        been: device and inode of the folders that were looked into, to which links may lead again.
    """
    try:
        status = path.stat()
    except OSError:  # gone since it was listed, or a link to nowhere
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Stamp(told, status.st_mtime_ns, status.st_size, status.st_ino)
        return
    own = (status.st_dev, status.st_ino)
    if own not in been and told.count("/") <= MAX_DEPTH:
        been.add(own)
        for entry in _listed(path):
            yield from _stamps(entry, f"{told}/{entry.name}", been)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it stands in a folder that may be listed and not looked into
        return False


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder and is not hidden; nothing of what is none, or is shut."""
    try:
        return _visible(folder)
    except OSError:
        return []


def _visible(folder: Path) -> list[Path]:
    entries = folder.iterdir()
    return [one for one in entries if one.name[0] != "." and one.name != "__pycache__"]
