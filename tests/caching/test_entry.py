"""A kept answer cannot be changed by the model that gave it, nor by those who are given it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caching.plain_values import VALUES, bits
from pelton.caching.encoding import MAX_VALUES, NotPlain
from pelton.caching.entry import TooLarge, entry_of


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_an_entry_gives_what_it_was_made_of(outputs) -> None:
    assert bits(entry_of(outputs, "d").outputs) == bits(outputs)


def test_a_model_may_use_its_buffer_again() -> None:
    buffer, words, nested = np.zeros(3), np.array([b"a"], object), [[1]]
    entry = entry_of({"y": buffer, "w": words, "n": nested})
    buffer += 1
    words[0] = b"z"
    nested[0].append(2)
    outputs = entry.outputs
    assert outputs["y"].tolist() == [0, 0, 0]
    assert outputs["w"].tolist() == [b"a"]
    assert outputs["n"] == [[1]]


@pytest.mark.parametrize("array", [np.zeros(3), np.array([b"a"], object), np.zeros((2, 3)).T])
def test_nobody_can_write_to_its_arrays(array) -> None:
    given_out = entry_of({"y": array}).outputs["y"]
    with pytest.raises(ValueError):
        given_out[...] = 1
    with pytest.raises(ValueError):
        given_out.flags.writeable = True


def test_who_changes_a_container_changes_only_its_own() -> None:
    entry = entry_of({"n": {"a": [1, bytearray(b"x")], "t": ([],)}})
    first = entry.outputs
    first["more"] = 1
    first["n"]["a"][1].append(0)
    first["n"]["a"].append(2)
    first["n"]["t"][0].append(3)
    assert entry.outputs == {"n": {"a": [1, b"x"], "t": ([],)}}


def test_large_arrays_are_shared_and_not_copied() -> None:
    entry = entry_of({"y": np.zeros(1000), "n": [np.zeros(1000)]})
    one, other = entry.outputs, entry.outputs
    assert one["y"] is other["y"]
    assert one["n"][0] is other["n"][0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"y": np.zeros(16)},
        lambda: {"y": np.zeros(100_000)},
        lambda: {f"y{index}": np.zeros((2, 2, 2)) for index in range(50)},
        lambda: {"y": "ü" * 5000, "z": b"a" * 5000},
        lambda: {"y": [float(index) for index in range(1000)]},
        lambda: {"y": {f"k{index}": [index + 1000] for index in range(500)}},
        lambda: {"y": np.array([b"x" * (2 + index % 7) for index in range(1000)], object)},
        lambda: {"y": [np.float32(index) for index in range(1000)]},
    ],
)
def test_it_counts_at_least_the_memory_that_it_takes(make) -> None:
    entry_of(make())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        entry = entry_of(make())
        taken_bytes = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken_bytes <= entry.size_bytes <= 5 * taken_bytes + 1000


def test_what_is_too_large_is_not_copied() -> None:
    sparse = np.broadcast_to(np.zeros(1), (2**40,))  # a copy of it would not fit into memory
    with pytest.raises(TooLarge):
        entry_of({"y": sparse}, limit_bytes=10_000)
    with pytest.raises(TooLarge):
        entry_of({"y": "a" * 10_000}, limit_bytes=10_000)
    assert entry_of({"y": np.zeros(1000)}, limit_bytes=10_000).size_bytes <= 10_000


def test_many_bytes_objects_count_one_by_one() -> None:
    with pytest.raises(TooLarge):
        entry_of({"y": np.array([b"a"] * 1000, object)}, limit_bytes=50_000)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        [[object()]],
        np.zeros(1, "<M8[s]"),
        np.array([object()]),
        np.ma.masked_array([1.0], [True]),
        [0] * MAX_VALUES,
    ],
)
def test_what_cannot_be_copied_is_not_kept(value) -> None:
    with pytest.raises(NotPlain):
        entry_of({"y": value})


def test_what_holds_itself_is_not_kept() -> None:
    endless: list = []
    endless.append(endless)
    with pytest.raises(NotPlain):
        entry_of({"y": endless})
