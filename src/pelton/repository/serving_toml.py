"""What a `model.toml` says of how its model is served: threads, queues, batches.

These stand at the file's top, above every `[table]`, and `[batching]` is a table of its own. They
are the fields of `pelton.specs.Serving` and `Batching`, and come before the server's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelton.repository.toml_values import Read, checked, number, whole, word, yes_no

BATCHING = "batching"
"""The name of the table."""

MAX_PREFERRED = 64
"""Most sizes that `preferred_batch_rows` may name."""


def _auto_or(plain: Read) -> Read:
    def read(value: Any) -> int:
        try:
            chosen: int = 0 if value == "auto" else plain(value)
        except ValueError as error:
            raise ValueError(f'"auto" or {error}') from None
        return chosen

    return read


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
    "isolation": word("auto", "process", "inline"),
    "instances": _auto_or(whole(0, 256)),
    "threads": _auto_or(whole(0, 1024)),
    "optimize_for": word("throughput", "latency"),
    "deterministic": yes_no,
    "max_queue_rows": whole(1, 10**9),
    "max_queue_bytes": whole(1, 2**60),
    "request_timeout_s": number("seconds", zero=False),
    "hang_grace_s": number("seconds", zero=False),
    "worker_max_bytes": whole(0, 2**60),
    "cache": yes_no,
    "cache_ttl_s": number("seconds", zero=False),
    "cache_max_bytes": whole(1, 2**60),
    "cache_objects": yes_no,
}
"""Key at the top of a `model.toml` -> how its value is read."""

IN_BATCHING: Mapping[str, Read] = {
    "max_batch_rows": _auto_or(whole(0, 65536)),
    "max_delay_ms": number("milliseconds", zero=True),
    "preferred_batch_rows": _ascending,
    "target_p99_ms": number("milliseconds", zero=True),
    "pad": yes_no,
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
    said = checked(top, SERVING, told, "")
    if batching:
        said[BATCHING] = checked(batching, IN_BATCHING, told, " in [batching]")
    return said


def over(said: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, Any]:
    """Return one file's word where it has one, and else that of a more general file."""
    batching = {**general.get(BATCHING, {}), **said.get(BATCHING, {})}
    return {**general, **said} | ({BATCHING: batching} if batching else {})
