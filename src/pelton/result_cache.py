"""Where answers are kept besides, by the settings in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelton.clock import Clock
from pelton.settings import Settings

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
