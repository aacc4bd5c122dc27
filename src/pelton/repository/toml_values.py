"""How single values of a `model.toml` are read: one small function for each kind of value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pelton.errors import LoadFailed

Read = Callable[[Any], Any]
"""Returns the checked value, or raises ValueError with what is wanted, to follow "it must be"."""


def whole(low: int, high: int) -> Read:
    """Return how a whole number within bounds, both included, is read."""

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def number(unit: str, *, zero: bool) -> Read:
    """Return how a finite number of some unit is read.

    Args:
        unit: such as `seconds`, for the message.
        zero: whether it may be 0.
    """

    def read(value: Any) -> float:
        fits = type(value) in (int, float) and math.isfinite(value) and value >= 0
        if not fits or not (value or zero):
            raise ValueError(f"a number of {unit}, " + ("at least 0" if zero else "more than 0"))
        return float(value)

    return read


def word(*allowed: str) -> Read:
    """Return how one of a few words is read."""

    def read(value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise ValueError(" or ".join(f'"{one}"' for one in allowed))
        return value

    return read


def yes_no(value: Any) -> bool:
    """Return what is true or false.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not bool:
        raise ValueError("true or false")
    return value


def checked(
    table: Mapping[str, Any], known: Mapping[str, Read], told: str, where: str
) -> dict[str, Any]:
    """Return the values of those keys of a table that are known.

    Args:
        table: the table.
        known: key -> how its value is read.
        told: begins every message.
        where: which table it is, such as ` in [batching]`; empty for the file's top.

    Raises:
        LoadFailed: a value is not what it must be.
    """
    values = {}
    for name, read in known.items():
        if name in table:
            try:
                values[name] = read(table[name])
            except ValueError as error:
                raise LoadFailed(
                    f"{told}: `{name}`{where} is {table[name]!r:.60}; it must be {error}"
                ) from None
    return values
