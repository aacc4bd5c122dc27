"""Names for versions, such as `stable` and `canary`, which move from one version to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from pelton.errors import InvalidRequest

MAX_VERSION = 999_999_999
"""Versions have at most nine digits, as those of folders."""

MAX_LABELS = 64
"""Most labels of one model."""

RESERVED = "latest"
"""No label: it would look like the policy and might mean another version."""

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")

RULE = (
    "a label has 1 to 32 small letters, digits, _ and -, begins with a letter, "
    f'and is not "{RESERVED}"'
)


def is_version(value: Any) -> TypeGuard[int]:
    """Tell whether a plain value is the number of a version."""
    return type(value) is int and 1 <= value <= MAX_VERSION


def is_label(value: Any) -> TypeGuard[str]:
    """Tell whether a plain value may be a label."""
    return isinstance(value, str) and value != RESERVED and _LABEL.fullmatch(value) is not None


def checked_labels(model: str, plain: Any) -> dict[str, int]:
    """Read the labels of a model, as the API takes them.

    Args:
        model: the model's name, for the errors.
        plain: a mapping of label -> version, parsed from JSON.

    Returns:
        A copy of it, in the order of the labels.

    Raises:
        InvalidRequest: it is something else, there are too many, or one of them is wrong.
    """
    if not isinstance(plain, Mapping):
        raise InvalidRequest(
            f"the labels of {model!r:.140} are {plain!r:.60}; they must be an object "
            'of label to version, such as {"stable": 3}'
        )
    if len(plain) > MAX_LABELS:
        raise InvalidRequest(
            f"the labels of {model!r:.140} are {len(plain)}; there may be {MAX_LABELS}"
        )
    for label, version in plain.items():
        if not is_label(label):
            raise InvalidRequest(f"{label!r:.60} is no label of {model!r:.140}; {RULE}")
        if not is_version(version):
            raise InvalidRequest(
                f"label {label!r} of {model!r:.140} points to {version!r:.60}; it must be "
                f"a whole number from 1 to {MAX_VERSION}"
            )
    return dict(sorted(plain.items()))
