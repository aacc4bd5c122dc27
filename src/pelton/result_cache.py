"""Where answers are kept besides, by the settings in force."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pelton.clock import Clock
from pelton.settings import Settings
from pelton.specs import ModelSpec

if TYPE_CHECKING:
    from pelton.caching.redis_store import RedisStore


def far_store(settings: Settings, clock: Clock) -> RedisStore | None:
    """Make the store in Redis, or None where no URL is set; nothing is connected yet.

    Raises:
        SettingsError: the package is missing, or the URL is none.
    """
    if settings["cache_redis_url"] is None:
        return None
    from pelton.caching.redis_store import RedisOptions, open_redis

    options = RedisOptions(
        url=settings["cache_redis_url"],
        namespace=settings["cache_redis_namespace"],
        timeout_s=settings["cache_redis_timeout_ms"] / 1000,
        max_entry_bytes=settings["cache_redis_max_entry_bytes"],
    )
    return open_redis(options, clock)


def digest_to_share(spec: ModelSpec) -> str:
    """Return by what other servers know that they serve just the same.

    What a model's `model.toml` says beside its versions counts too, as far as answers may depend
    on it.

    Args:
        spec: a version whose files are what its digest says.

    Returns:
        The digest of its manifest and of what is said beside it; empty where it has no digest.
        Then no other server is given its answers.
    """
    if not spec.digest:
        return ""
    options = sorted((name, value) for name, value in spec.options.items() if name != "device")
    said = repr((spec.runtime, options, spec.inputs, spec.outputs))
    return f"{spec.digest} {hashlib.sha256(said.encode()).hexdigest()}"
