"""Whether a version has a cache, and what tells it from those of other versions."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from pelton.caching.cache import How, ResultCache
from pelton.caching.entry import Entry
from pelton.caching.making import cache_for
from pelton.messages import InferRequest, InferResponse
from pelton.specs import ModelMetadata, Serving
from pelton.testing.fakes import FakeClock

ARRAYS = ModelMetadata("m", "1", "test", (), ())
OBJECTS = ModelMetadata("m", "1", "test", (), (), takes_objects=True)


class Far:
    """A far store that is there at once."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Entry] = {}

    async def get(self, key: bytes) -> tuple[Entry, float] | None:
        entry = self.kept.get(key)
        return None if entry is None else (entry, math.inf)

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        self.kept[key] = entry


@pytest.mark.parametrize(
    ("metadata", "serving", "made"),
    [
        (ARRAYS, Serving(), False),
        (ARRAYS, Serving(cache=True), True),
        (OBJECTS, Serving(cache=True), False),
        (OBJECTS, Serving(cache=True, cache_objects=True), True),
        (OBJECTS, Serving(cache=True, deterministic=True), True),
        (OBJECTS, Serving(cache_objects=True, deterministic=True), False),
    ],
)
def test_which_versions_have_one(metadata, serving, made, caplog) -> None:
    with caplog.at_level(logging.INFO, "pelton.caching"):
        cache = cache_for(metadata, serving, "", FakeClock())
    assert isinstance(cache, ResultCache) is made
    assert ("cache_objects = true" in caplog.text) is (serving.cache and not made)


async def asked_of(cache: ResultCache | None) -> How:
    assert cache is not None
    inputs = {"x": np.ones(2)}

    async def compute() -> InferResponse:
        return InferResponse("m", "1", {"y": np.ones(1)})

    return (await cache.answer(InferRequest("m", inputs), inputs, {}, compute))[1]


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        (("sha256:a", False), ("sha256:a", False), How.HIT),
        (("sha256:a", False), ("sha256:b", False), How.MISS),
        (("sha256:a", False), ("sha256:a", True), How.MISS),
        (("", False), ("", False), How.MISS),
    ],
    ids=["same files", "other files", "deterministic or not", "files unknown"],
)
async def test_who_finds_what_another_server_kept(first, second, how) -> None:
    far = Far()
    for digest, deterministic in (first, second):
        serving = Serving(cache=True, deterministic=deterministic)
        found = await asked_of(cache_for(ARRAYS, serving, digest, FakeClock(), far))
    assert found is how


async def test_time_and_memory_are_those_that_were_said() -> None:
    clock = FakeClock()
    serving = Serving(cache=True, cache_ttl_s=5.0, cache_max_bytes=8 * 1024)
    cache = cache_for(ARRAYS, serving, "", clock)
    assert cache is not None
    assert cache.memory.largest_bytes == 1024
    assert [await asked_of(cache) for _ in range(2)] == [How.MISS, How.HIT]
    clock.advance(5.0)
    assert await asked_of(cache) is How.MISS
