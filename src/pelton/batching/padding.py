"""Requests whose arrays differ in length share a run: filled up before, cut back after.

Only models that ask for it (`pad`) are served so, because only they know what zeros mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from pelton.messages import Value
from pelton.specs import TensorSpec
from pelton.tensors import Array

_SHORT_BITS = 6
"""Lengths below two to this power share a run whatever they are."""


def ragged_group(shape: Sequence[int]) -> Hashable:
    """Say which lengths may be filled up to each other.

    Lengths below 64 may, and otherwise those between the same two powers of two: so a long
    request makes its mates at most twice as long along an axis, not a thousand times.

    >>> ragged_group((3, 40)) == ragged_group((60, 1)), ragged_group((64,)) == ragged_group((127,))
    (True, True)
    >>> ragged_group((127,)) == ragged_group((128,))
    False
    """
    return tuple([max(length.bit_length(), _SHORT_BITS) for length in shape])


def joined(arrays: Sequence[Array]) -> Array:
    """Put arrays under each other, filled up to the longest along every axis behind the first.

    Args:
        arrays: of the same dtype and rank, `[rows, ...]`.

    Returns:
        A new array with the rows of all, in order. What is filled in, at the end of an axis, is
        zeros: False, empty text, and in object arrays `b""`, the empty element of `BYTES`.

    >>> joined([np.array([[1, 2]]), np.array([[3], [4]])]).tolist()
    [[1, 2], [3, 0], [4, 0]]
    """
    shapes = [array.shape[1:] for array in arrays]
    if shapes.count(shapes[0]) == len(shapes):
        return np.concatenate(arrays)
    rows = sum([len(array) for array in arrays])
    longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
    whole = np.zeros((rows, *longest), arrays[0].dtype)
    if whole.dtype == np.object_:
        whole.fill(b"")
    begin = 0
    for array, shape in zip(arrays, shapes, strict=True):
        end = begin + len(array)
        whole[(slice(begin, end), *map(slice, shape))] = array
        begin = end
    return whole


def cut_back(
    parts: Sequence[dict[str, Value]],
    batch: Sequence[Mapping[str, Value]],
    specs: Sequence[TensorSpec],
) -> None:
    """Give the outputs of each request the lengths that its own inputs had.

    An axis is cut where the model declares it as -1 and it is as long as the inputs were filled
    up to along the same axis: tokens `[rows, length]` to scores `[rows, length, 10]`. Axes of a
    declared size are never cut, nor any where two inputs of a request disagree on the length.
    What a model makes of the zeros in between (a mean, say) is its own business: give it a mask
    as a second input, which is filled up with zeros too.

    Args:
        parts: the outputs of each request, as `stacking.split` gives them; changed in place.
        batch: the inputs of each, as they came.
        specs: the outputs that the model declares; others are left alone.

    >>> parts = [{"y": np.zeros((1, 5, 10))}, {"y": np.zeros((1, 5, 10))}]
    >>> batch = [{"x": np.zeros((1, 3))}, {"x": np.zeros((1, 5))}]
    >>> cut_back(parts, batch, [TensorSpec("y", "FP64", (-1, -1, 10))])
    >>> [part["y"].shape for part in parts]
    [(1, 3, 10), (1, 5, 10)]
    """
    if len(batch) == 1:
        return
    longest = {
        (name, axis): max(inputs[name].shape[axis] for inputs in batch)
        for name, array in batch[0].items()
        for axis in range(1, array.ndim)
    }
    for part, inputs in zip(parts, batch, strict=True):
        own: dict[tuple[int, int], set[int]] = {}
        for (name, axis), length in longest.items():
            own.setdefault((axis, length), set()).add(inputs[name].shape[axis])
        for spec in specs:
            if spec.name in part:
                part[spec.name] = _cut(part[spec.name], spec.shape, own)


def _cut(array: Array, declared: tuple[int, ...], own: Mapping[tuple[int, int], set[int]]) -> Array:
    if array.ndim != len(declared):
        return array
    lengths = list(array.shape)
    for axis in range(1, array.ndim):
        known = own.get((axis, lengths[axis]), set())
        if declared[axis] == -1 and len(known) == 1:
            lengths[axis] = next(iter(known))
    # A cut array shares its memory with nobody, and the wire needs its elements side by side.
    return array if array.shape == tuple(lengths) else array[tuple(map(slice, lengths))].copy()
