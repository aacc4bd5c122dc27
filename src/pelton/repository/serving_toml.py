"""What a `model.toml` says of how its model is served: threads, queues, batches.

These stand at the file's top, above every `[table]`, and `[batching]` is a table of its own. They
are the fields of `pelton.specs.Serving` and `Batching`, and come before the server's settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pelton.errors import LoadFailed

Read = Callable[[Any], Any]
"""Returns the checked value, or raises ValueError with what is wanted, to follow "it must be"."""

BATCHING = "batching"
"""The name of the table."""

MAX_PREFERRED = 64
"""Most sizes that `preferred_batch_rows` may name."""


def _whole(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def _auto_or(number: Read) -> Read:
    def read(value: Any) -> int:
        try:
            chosen: int = 0 if value == "auto" else number(value)
        except ValueError as error:
            raise ValueError(f'"auto" or {error}') from None
        return chosen

    return read


def _number(unit: str, *, zero: bool) -> Read:
    def read(value: Any) -> float:
        fits = type(value) in (int, float) and math.isfinite(value) and value >= 0
        if not fits or not (value or zero):
            raise ValueError(f"a number of {unit}, " + ("at least 0" if zero else "more than 0"))
        return float(value)

    return read


def _word(*allowed: str) -> Read:
    def read(value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise ValueError(" or ".join(f'"{word}"' for word in allowed))
        return value

    return read


def _yes_no(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("true or false")
    return value


def _ascending(value: Any) -> tuple[int, ...]:
    wanted = f"a list of at most {MAX_PREFERRED} whole numbers from 1, each larger than the last"
    if not isinstance(value, list) or len(value) > MAX_PREFERRED:
        raise ValueError(wanted)
    if not all(type(rows) is int and 1 <= rows <= 65536 for rows in value):
        raise ValueError(wanted)
    if sorted(set(value)) != value:
        raise ValueError(wanted)
    return tuple(value)


SERVING: Mapping[str, Read] = {
    "isolation": _word("auto", "process", "inline"),
    "instances": _auto_or(_whole(0, 256)),
    "threads": _auto_or(_whole(0, 1024)),
    "optimize_for": _word("throughput", "latency"),
    "deterministic": _yes_no,
    "max_queue_rows": _whole(1, 10**9),
    "max_queue_bytes": _whole(1, 2**60),
    "request_timeout_s": _number("seconds", zero=False),
    "hang_grace_s": _number("seconds", zero=False),
}
"""Key at the top of a `model.toml` -> how its value is read."""

IN_BATCHING: Mapping[str, Read] = {
    "max_batch_rows": _auto_or(_whole(0, 65536)),
    "max_delay_ms": _number("milliseconds", zero=True),
    "preferred_batch_rows": _ascending,
    "target_p99_ms": _number("milliseconds", zero=True),
    "pad": _yes_no,
}
"""Key of the table `[batching]` -> how its value is read."""


def read_serving(top: Mapping[str, Any], batching: Mapping[str, Any], told: str) -> dict[str, Any]:
    """Return what a file says of serving, as `ModelSpec.serving` wants it.

    Args:
        top: the whole file; keys that are not about serving are passed over.
        batching: its table `[batching]`, whose keys are known ones.
        told: begins every message.

    Raises:
        LoadFailed: a value is not what it must be.
    """
    said = _checked(top, SERVING, told, "")
    if batching:
        said[BATCHING] = _checked(batching, IN_BATCHING, told, " in [batching]")
    return said


def over(said: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, Any]:
    """Return one file's word where it has one, and else that of a more general file."""
    batching = {**general.get(BATCHING, {}), **said.get(BATCHING, {})}
    return {**general, **said} | ({BATCHING: batching} if batching else {})


def _checked(
    table: Mapping[str, Any], known: Mapping[str, Read], told: str, where: str
) -> dict[str, Any]:
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
