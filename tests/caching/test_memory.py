"""What is kept is bounded by bytes and by time; what was used last stays longest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pelton.caching.entry import Entry, entry_of
from pelton.caching.memory import LARGEST_SHARE, MemoryStore
from pelton.testing.fakes import FakeClock

ENTRY = entry_of({"y": np.zeros(1000)})
SIZE = ENTRY.size_bytes + 1
"""With a key of one byte."""


def put(store: MemoryStore, key: bytes, entry: Entry, ttl_s: float = 60.0) -> bool:
    return store.put(key, entry, entry.size_bytes, ttl_s)


def store_for(entries: int, clock=None) -> MemoryStore:
    return MemoryStore(entries * SIZE, clock or FakeClock())


def test_what_was_put_is_there_and_nothing_else_is() -> None:
    store = store_for(10)
    assert put(store, b"a", ENTRY)
    assert store.get(b"a") is ENTRY
    assert store.get(b"b") is None
    assert (len(store), store.bytes) == (1, SIZE)


def test_the_least_lately_used_goes_first() -> None:
    store = store_for(8)
    keys = [bytes([index]) for index in range(8)]
    for key in keys:
        put(store, key, ENTRY)
    store.get(keys[0])
    put(store, b"9", ENTRY)
    assert store.get(keys[0]) is ENTRY
    assert store.get(keys[1]) is None
    assert store.evicted == 1
    assert (len(store), store.bytes) == (8, 8 * SIZE)


def test_an_entry_is_gone_when_its_time_is_over() -> None:
    clock = FakeClock()
    store = store_for(10, clock)
    put(store, b"a", ENTRY)
    clock.advance(59.9)
    assert store.get(b"a") is ENTRY  # being used does not make it younger
    clock.advance(0.1)
    assert store.get(b"a") is None
    assert (len(store), store.bytes, store.expired) == (0, 0, 1)


def test_an_entry_takes_the_place_of_one_with_the_same_key() -> None:
    clock = FakeClock()
    store = store_for(10, clock)
    put(store, b"a", ENTRY, 1.0)
    other = entry_of({"y": np.zeros(10)})
    put(store, b"a", other)
    clock.advance(2.0)
    assert store.get(b"a") is other
    assert store.bytes == other.size_bytes + 1


def test_an_entry_larger_than_its_share_is_not_kept_nor_is_the_one_before_it() -> None:
    store = store_for(LARGEST_SHARE)
    larger = entry_of({"y": np.zeros(1001)})
    assert put(store, b"a", ENTRY)
    assert not put(store, b"a", larger)
    assert store.get(b"a") is None
    assert store.bytes == 0


def test_a_key_takes_memory_too() -> None:
    store = store_for(LARGEST_SHARE)
    assert put(store, b"a", ENTRY)
    assert not put(store, b"ab", ENTRY)
    assert store.bytes == SIZE


def test_a_bound_of_nothing_keeps_nothing() -> None:
    store = MemoryStore(0, FakeClock())
    assert not put(store, b"a", ENTRY)
    assert len(store) == 0


def test_clear_forgets_everything() -> None:
    store = store_for(10)
    put(store, b"a", ENTRY)
    store.clear()
    assert store.get(b"a") is None
    assert (len(store), store.bytes) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1200), st.floats(0, 3)), max_size=40))
def test_the_count_of_bytes_is_right_and_within_the_bound_whatever_happens(steps) -> None:
    clock = FakeClock()
    store = store_for(8, clock)
    for name, count, seconds in steps:
        clock.advance(seconds)
        if count % 3:
            put(store, bytes([name]), entry_of({"y": np.zeros(count)}), 2.0)
        else:
            store.get(bytes([name]))
        places = store.places.values()
        assert store.bytes == sum(place[0].size_bytes + 1 for place in places) <= 8 * SIZE
