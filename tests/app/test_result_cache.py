"""The settings of the result cache, as they reach what keeps answers."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from pelton.errors import SettingsError
from pelton.repository import manifest
from pelton.result_cache import digest_to_share, far_store
from pelton.settings import load_settings
from pelton.specs import ModelSpec, TensorSpec


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


# -- what servers that serve the same call it ----------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> ModelSpec:
    """A version that was published, and has not been touched since."""
    folder = tmp_path / "m" / "3"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    found = manifest.measure(folder)
    manifest.write(folder, found)
    return ModelSpec("m", 3, folder / "model.onnx", "onnx", digest=found.digest)


def test_it_begins_with_the_digest_of_the_files(published) -> None:
    told = digest_to_share(published)
    assert told.startswith(published.digest + " ")
    assert told == digest_to_share(published)


def test_a_version_without_a_digest_is_shared_with_nobody(published) -> None:
    assert digest_to_share(dataclasses.replace(published, digest="")) == ""


@pytest.mark.parametrize(
    "said",
    [
        {"options": {"optimize": "none"}},
        {"outputs": (TensorSpec("y", "FP32", (-1,)),)},
        {"inputs": (TensorSpec("x", "FP32", (-1,)),)},
        {"runtime": "other"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_is_said_beside_the_files_counts(published, said) -> None:
    assert digest_to_share(dataclasses.replace(published, **said)) != digest_to_share(published)


def test_where_it_runs_does_not(published) -> None:
    elsewhere = dataclasses.replace(published, options={"device": "cuda:1"})
    assert digest_to_share(elsewhere) == digest_to_share(published)
