"""Requests that share a run get, bit for bit, the rows that they brought or were computed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.batching.stacking import (
    OWN_MEMORY_BYTES,
    bytes_of,
    group_of,
    rows_of,
    split,
    stack,
)
from pelton.errors import ModelFailed
from pelton.tensors import DATATYPES


def zeros(*shape: int, dtype: str = "<f4") -> np.ndarray:
    return np.zeros(shape, dtype)


# Who may share a run


def test_those_that_differ_in_rows_only_share_a_run() -> None:
    assert group_of({"x": zeros(1, 3)}) == group_of({"x": zeros(7, 3)})
    assert group_of({"x": zeros(5)}) == group_of({"x": zeros(2)})
    one = {"x": zeros(2, 3), "y": zeros(2, dtype="<i8")}
    other = {"y": zeros(4, dtype="<i8"), "x": zeros(4, 3)}
    assert group_of(one) == group_of(other)


@pytest.mark.parametrize(
    "other",
    [
        {"x": zeros(1, 4)},
        {"x": zeros(1, 3, 1)},
        {"x": zeros(1)},
        {"y": zeros(1, 3)},
        {"x": zeros(1, 3), "y": zeros(1, 3)},
        {"x": zeros(1, 3, dtype="<f8")},
        {"x": zeros(1, 3, dtype=">f4")},
        {"x": zeros(1, 3, dtype="<U4")},
    ],
)
def test_those_that_differ_in_anything_else_do_not(other: dict[str, np.ndarray]) -> None:
    assert group_of({"x": zeros(1, 3)}) != group_of(other)
    assert group_of(other) is not None


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": zeros()},
        {"x": zeros(0, 3)},
        {"x": zeros(2, 3), "y": zeros(3, 3)},
        {"x": zeros(2, 3), "y": zeros()},
        {"x": zeros(2, 3), "y": 1.5},
        {"x": [1, 2]},
        {"x": np.ma.masked_array([1, 2], [True, False])},
        {"x": None},
    ],
)
@pytest.mark.parametrize("pad", [False, True])
def test_what_has_no_common_rows_runs_alone(inputs: dict, pad: bool) -> None:
    assert group_of(inputs, pad) is None


def test_only_a_model_that_pads_mixes_lengths() -> None:
    short, long = {"x": zeros(1, 3)}, {"x": zeros(2, 40)}
    assert group_of(short) != group_of(long)
    assert group_of(short, pad=True) == group_of(long, pad=True)
    assert group_of(short, pad=True) != group_of({"x": zeros(1, 3, 1)}, pad=True)
    assert group_of(short, pad=True) != group_of({"x": zeros(1, 3, dtype="<i4")}, pad=True)


# Counting


@pytest.mark.parametrize(
    ("inputs", "rows"),
    [
        ({"x": zeros(3, 2)}, 3),
        ({"x": zeros(3, 2), "y": zeros(5)}, 5),
        ({"x": zeros(0, 2)}, 1),
        ({"x": zeros()}, 1),
        ({"x": "text", "y": [1, 2, 3]}, 1),
        ({}, 1),
    ],
)
def test_every_request_counts_as_a_row_at_least(inputs: dict, rows: int) -> None:
    assert rows_of(inputs) == rows


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({"x": zeros(3, 2), "y": zeros(4, dtype="<i8")}, 24 + 32),
        ({"x": zeros(0, 2)}, 0),
        ({"x": np.array([b"abc", b""], object)}, 8 + (8 + 3) + 8),
        ({"x": "four", "y": b"five5", "z": 7}, 8 + 4 + 8 + 5 + 8),
        ({"x": [zeros(2), {"key": b"1234"}]}, 8 + (8 + 8) + (8 + (8 + 3) + (8 + 4))),
        ({}, 0),
    ],
)
def test_inputs_count_with_what_they_hold(inputs: dict, size: int) -> None:
    assert bytes_of(inputs) == size


def test_values_that_hold_themselves_are_counted_once() -> None:
    loop: list = [b"x"]
    loop.append(loop)
    assert bytes_of({"x": loop}) == 8 + (8 + 1) + 8
    doubled: list = [b"x"]
    for _ in range(100):  # 2**100 leaves, if each were walked to
        doubled = [doubled, doubled]
    assert bytes_of({"x": doubled}) == 8 + 100 * 16 + 9


# There and back


def random_array(datatype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random bits: NaNs with payloads and negative zeros among them."""
    dtype = DATATYPES[datatype].dtype
    random = np.random.default_rng(seed)
    if dtype == np.object_:
        array = np.empty(shape, object)
        array.flat = [random.bytes(int(random.integers(0, 9))) for _ in range(array.size)]
        return array
    count = int(np.prod(shape)) * dtype.itemsize
    bits = random.integers(0, 256, count, np.uint8)
    return (bits & 1 if dtype == np.bool_ else bits).view(dtype).reshape(shape)


def bits_of(array: np.ndarray) -> object:
    content = array.tolist() if array.dtype == np.object_ else array.tobytes()
    return array.dtype, array.shape, content


@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.integers(0, 4), max_size=2),
    st.integers(0, 2**32),
)
def test_what_is_stacked_is_split_to_the_same_bits(datatype, rows, shape, seed) -> None:
    batch = [
        {
            "x": random_array(datatype, (count, *shape), seed + index),
            "second": random_array("INT64", (count,), seed + 100 + index),
        }
        for index, count in enumerate(rows)
    ]
    assert len({group_of(inputs) for inputs in batch}) == 1
    stacked = stack(batch)
    assert [len(array) for array in stacked.values()] == [sum(rows)] * 2
    for inputs, part in zip(batch, split(stacked, rows), strict=True):
        assert list(part) == ["x", "second"]
        for name, array in inputs.items():
            assert bits_of(part[name]) == bits_of(array)


def test_names_are_matched_whatever_their_order() -> None:
    one = {"x": np.array([1.0]), "y": np.array([2.0])}
    other = {"y": np.array([4.0]), "x": np.array([3.0])}
    stacked = stack([one, other])
    assert stacked["x"].tolist() == [1.0, 3.0]
    assert stacked["y"].tolist() == [2.0, 4.0]


def test_one_request_passes_without_a_copy() -> None:
    inputs = {"x": zeros(2, 3), "y": "any value"}
    assert stack([inputs]) is inputs
    outputs = {"scores": zeros(7), "words": ["not", "rows"]}
    (part,) = split(outputs, [2])
    assert part == outputs
    assert part["scores"] is outputs["scores"]


def test_stacking_leaves_the_requests_as_they_were() -> None:
    inputs = {"x": zeros(1, 3)}
    inputs["x"].flags.writeable = False
    stacked = stack([inputs, {"x": zeros(1, 3)}])
    stacked["x"][:] = 7
    assert not inputs["x"].any()


@pytest.mark.parametrize("elements", [4, OWN_MEMORY_BYTES])
def test_no_request_writes_into_anothers_outputs(elements: int) -> None:
    parts = split({"y": zeros(3, elements)}, [1, 1, 1])
    parts[1]["y"][:] = 7
    assert [part["y"].any() for part in parts] == [False, True, False]


def test_one_slow_reader_does_not_keep_the_outputs_of_all() -> None:
    whole = zeros(2, OWN_MEMORY_BYTES)
    kept = weakref.ref(whole)
    slow, _ = split({"y": whole}, [1, 1])
    del whole, _
    gc.collect()
    assert kept() is None
    assert slow["y"].nbytes == 4 * OWN_MEMORY_BYTES


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (zeros(2, 3), "shape [2, 3]"),
        (zeros(4, 3), "shape [4, 3]"),
        (zeros(), "shape []"),
        ([1, 2, 3], "no array"),
        (None, "no array"),
    ],
)
def test_outputs_that_are_not_rows_fail_the_batch(output: object, told: str) -> None:
    with pytest.raises(ModelFailed) as caught:
        split({"fine": zeros(3), "scores": output}, [1, 2])
    assert "3 rows" in caught.value.message
    assert "'scores'" in caught.value.message
    assert told in caught.value.message
    assert "max_batch_rows = 1" in caught.value.message
