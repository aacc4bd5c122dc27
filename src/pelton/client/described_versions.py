"""What a server tells about the versions in its repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pelton.errors import ConnectionFailed


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version of one model, as the index of a repository lists it.

    Attributes:
        name: the model's name.
        version: as text; empty where none could be told.
        state: `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`; empty where it was never loaded.
        reason: why it is not ready.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VersionDescription:
    """One version of a model, with its history.

    Attributes:
        version: positive.
        state: how far it is, such as `ready`, `unloaded`, `failed` or `refused`.
        reason: why it failed or was refused; empty for others.
        digest: SHA-256 of its manifest, as `sha256:HEX`; empty where it was not published.
        published_s: when it was published, seconds since 1970; None where it was not.
        active: whether it answers for the model's name.
        kept: whether it is kept loaded, so that `rollback` brings it back at once.
        on_probation: whether it is taken back by itself if it turns out worse.
        labels: by which names it is called, such as `stable`.
    """

    version: int
    state: str
    reason: str = ""
    digest: str = ""
    published_s: float | None = None
    active: bool = False
    kept: bool = False
    on_probation: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """A version that was pushed, passed all gates, and answers now.

    Attributes:
        model: the model's name.
        version: positive.
        digest: SHA-256 of its manifest, as `sha256:HEX`.
        numbers: what was measured at the gates.
    """

    model: str
    version: int
    digest: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def index_from_json(said: object) -> tuple[IndexEntry, ...]:
    """Read the answer of `POST /v2/repository/index`.

    Raises:
        ConnectionFailed: it is no such list.
    """
    if not isinstance(said, list):
        raise _unreadable("the index is no list")
    return tuple(
        IndexEntry(**{key: _text(row, key, key != "name") for key in _INDEX_KEYS}) for row in said
    )


def versions_from_json(said: object) -> tuple[VersionDescription, ...]:
    """Read the answer of `GET /v2/repository/models/NAME/versions`.

    Raises:
        ConnectionFailed: it is no list of versions.
    """
    rows = said.get("versions") if isinstance(said, dict) else None
    if not isinstance(rows, list):
        raise _unreadable("the list of versions is missing")
    return tuple(map(_version, rows))


def published_from_json(said: object) -> Published:
    """Read what a server tells of a version that it took.

    Raises:
        ConnectionFailed: it lacks what has to be told.
    """
    numbers = said.get("numbers", {}) if isinstance(said, dict) else None
    if not isinstance(numbers, dict):
        raise _unreadable('"numbers" is no JSON object')
    return Published(_text(said, "model"), version_from_json(said), _text(said, "digest"), numbers)


def version_from_json(said: object) -> int:
    """Read the number of a version that is told as `version`.

    Raises:
        ConnectionFailed: it is not there.
    """
    version = said.get("version") if isinstance(said, dict) else None
    if type(version) is not int or version < 1:
        raise _unreadable('"version" is missing or no number')
    return version


_INDEX_KEYS = ("name", "version", "state", "reason")


def _version(row: object) -> VersionDescription:
    version = version_from_json(row)
    assert isinstance(row, dict)
    published_s, labels = row.get("published_s"), row.get("labels", [])
    if not (published_s is None or type(published_s) in (int, float)):
        raise _unreadable('"published_s" is no number')
    if not isinstance(labels, list):
        raise _unreadable('"labels" is no list')
    return VersionDescription(
        version=version,
        state=_text(row, "state"),
        reason=_text(row, "reason", may_lack=True),
        digest=_text(row, "digest", may_lack=True),
        published_s=published_s,
        active=row.get("active") is True,
        kept=row.get("kept") is True,
        on_probation=row.get("on_probation") is True,
        labels=tuple(map(str, labels)),
    )


def _text(said: object, key: str, may_lack: bool = False) -> str:
    value = said.get(key, "" if may_lack else None) if isinstance(said, dict) else None
    if not isinstance(value, str):
        raise _unreadable(f'"{key}" is missing or no text')
    return value


def _unreadable(why: str) -> ConnectionFailed:
    return ConnectionFailed(f"the server's answer cannot be read: {why}")
