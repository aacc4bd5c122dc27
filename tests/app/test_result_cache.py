"""The settings of the result cache, as they reach what keeps answers."""

from __future__ import annotations

import time

import pytest

from pelton.errors import SettingsError
from pelton.result_cache import far_store
from pelton.settings import load_settings


def test_without_a_url_there_is_no_far_store() -> None:
    assert far_store(load_settings({}, {}), time.monotonic) is None


async def test_the_store_in_redis_has_the_options_that_were_set(monkeypatch) -> None:
    from pelton.caching import redis_store

    made = []
    monkeypatch.setattr(redis_store, "open_redis", lambda options, clock: made.append(options))
    flags = {
        "cache_redis_url": "redis://cache:1/2",
        "cache_redis_namespace": "fleet",
        "cache_redis_timeout_ms": "50ms",
        "cache_redis_max_entry_bytes": "64KiB",
    }
    far_store(load_settings(flags, {}), time.monotonic)
    assert made == [redis_store.RedisOptions("redis://cache:1/2", "fleet", 0.05, 65536)]


def test_a_url_that_is_none_is_told_without_the_password() -> None:
    with pytest.raises(SettingsError, match="not valid; it looks like redis://") as caught:
        far_store(load_settings({"cache_redis_url": "nonsense:secret@x"}, {}), time.monotonic)
    assert "secret" not in caught.value.message
