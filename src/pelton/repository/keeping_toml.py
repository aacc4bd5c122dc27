"""What a `model.toml` says of how a model is kept, and which of its versions are loaded.

policy = "latest"            # or "all", or [1, 3], or {latest = 2}
pinned = true
digest = "sha256:..."        # or a table: version -> digest

[version_labels]
stable = 2
canary = 3
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pelton.errors import LoadFailed
from pelton.repository.names import MAX_VERSION
from pelton.repository.toml_values import Read, checked, yes_no
from pelton.specs import ALL_VERSIONS, VersionPolicy

MAX_LISTED = 1024
"""Most versions that a policy may list, and most labels of versions."""

EVERY = 0
"""In a table of digests: the key of the digest that is said for no version in particular."""

_LABEL = re.compile(r"(?!latest\Z)[a-z][a-z0-9_-]{0,31}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _is_version(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_VERSION


def _policy(value: Any) -> VersionPolicy:
    if value == "latest":
        return VersionPolicy()
    if value == "all":
        return ALL_VERSIONS
    if isinstance(value, list) and 1 <= len(value) <= MAX_LISTED and all(map(_is_version, value)):
        return VersionPolicy(None, tuple(sorted(set(value))))
    if isinstance(value, dict) and list(value) == ["latest"] and _is_version(value["latest"]):
        return VersionPolicy(value["latest"])
    raise ValueError('"latest", "all", a list of versions such as [1, 3], or {latest = 2}')


def _version_labels(value: Any) -> dict[str, int]:
    fits = isinstance(value, dict) and len(value) <= MAX_LISTED
    if not fits or not all(map(_is_version, value.values())):
        raise ValueError("a table of labels and the versions that they stand for")
    if not all(_LABEL.fullmatch(label) for label in value):
        raise ValueError(
            "a table of labels; a label has 1 to 32 small letters, digits, _ and -, begins with a "
            'letter, and is not "latest"'
        )
    return dict(value)


def _digest(value: Any) -> dict[int, str]:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return {EVERY: value}
    if isinstance(value, dict) and len(value) <= MAX_LISTED:
        texts = [isinstance(text, str) and _DIGEST.fullmatch(text) for text in value.values()]
        if all(texts) and all(re.fullmatch(r"[1-9][0-9]{0,8}", key) for key in value):
            return {int(key): text for key, text in value.items()}
    raise ValueError('"sha256:" and 64 hexadecimal digits in small letters, or a table of versions')


KEEPING: Mapping[str, Read] = {
    "policy": _policy,
    "version_labels": _version_labels,
    "pinned": yes_no,
    "digest": _digest,
}
"""Key at the top of a `model.toml` -> how its value is read."""

OF_THE_MODEL = ("policy", "version_labels")
"""The keys that speak of all versions together, so that no version's own file may have them."""


def read_keeping(top: Mapping[str, Any], told: str) -> dict[str, Any]:
    """Return what a file says of keeping its model, by name of the key.

    Args:
        top: the whole file; keys that are about something else are passed over.
        told: begins every message.

    Raises:
        LoadFailed: a value is not what it must be.
    """
    return checked(top, KEEPING, told, "")


def keeping_of(said: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return what was said as fields of a `ModelSpec`.

    Args:
        said: what `read_keeping` returned.
        version: the version that the spec is for.
    """
    digests = said.get("digest", {})
    digest = digests.get(version, digests.get(EVERY, ""))
    return {**said, "digest": digest}


def refuse_in_version(said: Mapping[str, Any], told: str, model: str) -> None:
    """Refuse keys in a version's own file that speak of all versions together.

    Args:
        said: what the version's file says.
        told: how messages shall name that file.
        model: name of the model.

    Raises:
        LoadFailed: there is one.
    """
    for key in OF_THE_MODEL:
        if key in said:
            raise LoadFailed(
                f"{told}: `{key}` speaks of all versions; write it into {model}/model.toml"
            )
