"""Ragged requests share a run, and get back what is theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.batching.padding import cut_back, joined, ragged_group
from pelton.batching.stacking import group_of, split, stack
from pelton.specs import TensorSpec


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((1,), (63,), True),
        ((63,), (64,), False),
        ((64,), (127,), True),
        ((100, 5), (100, 50), True),
        ((100, 5), (200, 5), False),
        ((0,), (5,), True),
        ((), (), True),
        ((5,), (5, 5), False),
    ],
)
def test_lengths_that_are_too_different_are_kept_apart(one, other, together) -> None:
    assert (ragged_group(one) == ragged_group(other)) == together


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=3), st.data())
def test_filling_up_at_most_doubles_a_length_beyond_the_short_ones(shape, data) -> None:
    mate = [data.draw(st.integers(0, 5000)) for _ in shape]
    if ragged_group(shape) == ragged_group(mate):
        assert all(theirs <= max(2 * ours, 63) for ours, theirs in zip(shape, mate, strict=True))


@pytest.mark.parametrize(
    ("array", "fill"),
    [
        (ones(1, 1), 0.0),
        (np.ones((1, 1), np.bool_), False),
        (np.full((1, 1), -1, np.int8), 0),
        (np.full((1, 1), b"x", object), b""),
        (np.full((1, 1), "x", "<U3"), ""),
    ],
)
def test_the_rest_is_filled_with_nothing(array: np.ndarray, fill: object) -> None:
    whole = joined([array, np.concatenate([array, array], axis=1)])
    assert whole.dtype == array.dtype
    assert whole.tolist() == [[array[0, 0], fill], [array[0, 0]] * 2]


def test_every_axis_is_filled_up_on_its_own() -> None:
    whole = joined([ones(2, 1, 3), ones(1, 2, 1)])
    assert whole.shape == (3, 2, 3)
    assert whole.sum() == 2 * 3 + 2
    assert whole[:2, 0].all()
    assert whole[2, :, 0].all()


ROWS_AND_SHAPES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5
)


@given(ROWS_AND_SHAPES)
def test_a_model_that_leaves_places_alone_gives_each_its_own_back(shapes) -> None:
    random = np.random.default_rng(0)
    batch = [{"x": random.random(shape)} for shape in shapes]
    assert len({group_of(inputs, pad=True) for inputs in batch}) == 1
    stacked = stack(batch)
    parts = split({"y": -stacked["x"]}, [rows for rows, _, _ in shapes])
    cut_back(parts, batch, [TensorSpec("y", "FP64", (-1, -1, -1))])
    for inputs, part in zip(batch, parts, strict=True):
        assert part["y"].tobytes() == (-inputs["x"]).tobytes()
        assert part["y"].shape == inputs["x"].shape
        assert part["y"].flags.c_contiguous


def shapes_after(
    declared: tuple[int, ...], output: np.ndarray, *batch: dict[str, np.ndarray]
) -> list[tuple[int, ...]]:
    parts = [{"y": output} for _ in batch]
    cut_back(parts, batch, [TensorSpec("y", "FP32", declared)])
    return [part["y"].shape for part in parts]


SHORT, LONG = {"x": ones(1, 3)}, {"x": ones(1, 5)}


@pytest.mark.parametrize(
    ("declared", "output", "short"),
    [
        ((-1, -1), (1, 5), (1, 3)),
        ((-1, -1, 5), (1, 5, 5), (1, 3, 5)),
        ((-1, 5), (1, 5), (1, 5)),  # five classes, not five places
        ((-1, -1), (1, 6), (1, 6)),  # of another length: nothing to do with the input's
        ((-1, 2, -1), (1, 2, 5), (1, 2, 5)),  # along another axis
        ((-1,), (1, 5), (1, 5)),  # not what was declared
        ((-1,), (5,), (5,)),  # the first axis counts rows
    ],
)
def test_only_an_axis_of_open_size_and_the_filled_length_is_cut(declared, output, short) -> None:
    found = shapes_after(declared, ones(*output), SHORT, LONG)
    assert found == [short, output]


def test_a_length_on_which_two_inputs_disagree_is_not_cut() -> None:
    one = {"x": ones(1, 3), "mask": ones(1, 3)}
    other = {"x": ones(1, 5), "mask": ones(1, 5)}
    odd = {"x": ones(1, 3), "mask": ones(1, 4)}
    found = shapes_after((-1, -1), ones(1, 5), one, other, odd)
    assert found == [(1, 3), (1, 5), (1, 5)]


def test_what_nobody_filled_up_is_left_alone() -> None:
    output = ones(1, 3)
    assert shapes_after((-1, -1), output, SHORT) == [(1, 3)]
    parts = [{"y": output}, {"y": output}]
    cut_back(parts, [SHORT, SHORT], [TensorSpec("y", "FP32", (-1, -1))])
    assert all(part["y"] is output for part in parts)
    cut_back(parts, [SHORT, LONG], [TensorSpec("another", "FP32", (-1, -1))])
    assert all(part["y"] is output for part in parts)
