"""A packed answer is what was packed, and nobody can change it."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caching.plain_values import bits
from pelton.caching.entry import entry_of
from pelton.caching.memory import MemoryStore
from pelton.caching.packed import Packing, unpacked
from pelton.testing.fakes import FakeClock

ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", ">f8", "<i8", "|u1", "|b1", "<c8", "<f2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@given(st.lists(st.dictionaries(st.sampled_from("xyz"), ARRAYS, min_size=1), max_size=4))
def test_it_gives_what_was_packed_whatever_was_packed_before(answers) -> None:
    packing = Packing()
    for outputs in answers:
        packed = packing.pack(outputs, math.inf)
        assert packed is not None
        assert bits(unpacked(packed)) == bits(outputs)
        assert packing.size_bytes == entry_of(outputs).size_bytes


@pytest.mark.parametrize(
    "other",
    [
        {"z": np.ones((1, 2), "f4")},
        {"y": np.ones((2, 1), "f4")},
        {"y": np.ones((1, 2), "i4")},
        {"y": np.ones((1, 2), ">f4")},
        {"y": np.ones((1, 2), "f4"), "z": np.ones(1)},
        {},
    ],
    ids=["name", "shape", "dtype", "byte order", "one more", "none"],
)
def test_one_that_differs_from_the_one_before_it_is_its_own(other) -> None:
    packing = Packing()
    first = {"y": np.ones((1, 2), "f4")}
    for outputs in (first, other, first):
        packed = packing.pack(outputs, math.inf)
        assert packed is not None
        assert bits(unpacked(packed)) == bits(outputs)


def test_the_order_of_outputs_is_kept() -> None:
    packing, y, z = Packing(), np.zeros(1), np.ones(1)
    for outputs in ({"y": y, "z": z}, {"z": z, "y": y}, {"z": y, "y": z}):
        packed = packing.pack(outputs, math.inf)
        assert packed is not None
        assert bits(unpacked(packed)) == bits(outputs)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        [1.0],
        1.0,
        "text",
        np.array([b"a"], object),
        np.array(["a"]),
        np.float32(1),
        np.ma.array([1]),
    ],
    ids=["list", "number", "text", "objects", "texts", "scalar", "masked"],
)
def test_only_arrays_of_numbers_are_packed(value, first) -> None:
    packing = Packing()
    if not first:
        assert packing.pack({"y": np.ones(1)}, math.inf) is not None
    assert packing.pack({"y": value}, math.inf) is None
    assert packing.pack({"x": np.ones(1), "y": value}, math.inf) is None
    assert packing.pack({"y": np.ones(1)}, math.inf) is not None


def test_one_that_would_take_too_much_is_not_packed() -> None:
    packing, outputs = Packing(), {"y": np.zeros(100)}
    size_bytes = entry_of(outputs).size_bytes
    assert packing.pack(outputs, size_bytes - 1) is None
    assert packing.pack(outputs, size_bytes) is not None


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 3)).T, np.zeros(6)[::2]])
def test_neither_the_model_nor_a_reader_can_change_it(array) -> None:
    packing = Packing()
    for value in range(2):  # the second one is packed like the first
        packed = packing.pack({"y": array}, math.inf)
        assert packed is not None
        array += 1
        given_out = unpacked(packed)["y"]
        assert (given_out == value).all()
    with pytest.raises(ValueError):
        given_out[...] = 1
    with pytest.raises(ValueError):
        given_out.flags.writeable = True


def test_answers_that_agree_share_what_describes_them() -> None:
    packing = Packing()
    one, other = (packing.pack({"y": np.full(2, value)}, math.inf) for value in (1.0, 2.0))
    assert one is not None
    assert other is not None
    assert one[0] is other[0]


def test_the_collector_of_cycles_leaves_them_alone() -> None:
    packing, store = Packing(), MemoryStore(1_000_000, FakeClock())
    for key in (b"k", b"l"):
        packed = packing.pack({"y": np.ones(1), "z": np.ones(2)}, math.inf)
        assert packed is not None
        assert store.put(key, packed, packing.size_bytes, 60.0)
    for _ in range(5):  # a tuple is let go once all that it holds was
        gc.collect()
    assert not any(map(gc.is_tracked, store.places.values()))
