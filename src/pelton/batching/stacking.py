"""Several requests become the inputs of one run, and its outputs become their answers again.

Whether they fit together is said by `group_of`; the functions below trust it.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from pelton.batching.padding import joined, ragged_group
from pelton.errors import ModelFailed
from pelton.messages import Value


class NotInRows(ModelFailed):
    """A model's outputs cannot be told apart by request: it is none whose requests share runs."""


OWN_MEMORY_BYTES = 64 * 1024
"""An output with more bytes than this is copied apart, so that each answer has its own memory.

Otherwise one slow reader would keep the outputs of the whole batch in memory."""

REFERENCE_BYTES = 8


def group_of(inputs: Mapping[str, Value], pad: bool = False) -> Hashable | None:
    """Say with which other requests to the same model this one may share a run.

    Args:
        inputs: checked inputs by name, in any order.
        pad: whether arrays may differ in length behind the first axis; see `padding.py`.

    Returns:
        A value that is equal for requests with the same names, dtypes and shapes behind the
        first axis; None for a request that must run alone: one without rows, with an input that
        is no array or has no first axis, or whose inputs differ in how many rows they bring.

    >>> group_of({"x": np.zeros((2, 3))}) == group_of({"x": np.zeros((5, 3))})
    True
    >>> group_of({"x": np.zeros((2, 3))}) == group_of({"x": np.zeros((2, 4))})
    False
    >>> group_of({"x": np.zeros((2, 3)), "y": np.zeros(4)}) is None
    True
    """
    rows = 0
    parts: list[tuple[str, np.dtype[np.generic], Hashable]] = []
    for name, value in inputs.items():
        # A subclass such as a masked array would lose its own part in a plain concatenation.
        if type(value) is not np.ndarray or not value.shape:
            return None
        if not parts:
            rows = value.shape[0]
        if not value.shape[0] or value.shape[0] != rows:
            return None
        shape = value.shape[1:]
        parts.append((name, value.dtype, ragged_group(shape) if pad else shape))
    if len(parts) > 1:
        parts.sort(key=lambda part: part[0])
    return tuple(parts) or None


def rows_of(inputs: Mapping[str, Value]) -> int:
    """Count how many rows a request brings, for the bounds of line and batch.

    Returns:
        The longest first axis of its arrays; 1 where there is none, so that every request counts.
    """
    rows = 1
    for value in inputs.values():
        if isinstance(value, np.ndarray) and value.shape and value.shape[0] > rows:
            rows = value.shape[0]
    return rows


def bytes_of(inputs: Mapping[str, Value]) -> int:
    """Count how many bytes the inputs of a request keep in memory, for the bound of the line.

    Arrays, text and bytes count with what they hold, including the elements of object arrays;
    every other value, and the place of each in a list or dict, counts as a reference.

    >>> bytes_of({"x": np.zeros((2, 3), np.float32)}), bytes_of({"words": [b"four", "five5"]})
    (24, 33)
    """
    total_bytes = 0
    for value in inputs.values():
        if type(value) is np.ndarray and value.dtype != np.object_:
            total_bytes += value.nbytes
        else:
            total_bytes += _nested_bytes(value)
    return total_bytes


def _nested_bytes(value: Value) -> int:
    total_bytes = 0
    seen: set[int] = set()
    left = [value]
    while left:
        value = left.pop()
        total_bytes += REFERENCE_BYTES
        if isinstance(value, str | bytes):
            total_bytes += len(value)
        elif isinstance(value, np.ndarray) and value.dtype != np.object_:
            total_bytes += value.nbytes
        elif isinstance(value, list | tuple | dict | np.ndarray) and id(value) not in seen:
            # A list may hold itself, or the same list twice, and that one again.
            seen.add(id(value))
            left.extend(_within(value))
    return total_bytes


def _within(value: Value) -> Iterable[Value]:
    if isinstance(value, dict):
        return itertools.chain(value, value.values())
    return value.flat if isinstance(value, np.ndarray) else value


def stack(batch: Sequence[Mapping[str, Value]]) -> Mapping[str, Value]:
    """Put the inputs of several requests under each other along the first axis.

    Args:
        batch: inputs of at least one request, all of the same `group_of`. If that was formed
            with `pad`, shorter arrays are filled up with zeros.

    Returns:
        One array for each input, with the rows of all, in order; for one request, its own inputs.

    >>> stack([{"x": np.array([[1, 2]])}, {"x": np.array([[3, 4], [5, 6]])}])["x"].tolist()
    [[1, 2], [3, 4], [5, 6]]
    """
    if len(batch) == 1:
        return batch[0]
    stacked = {}
    for name in batch[0]:
        stacked[name] = joined([inputs[name] for inputs in batch])
    return stacked


def split(outputs: Mapping[str, Value], rows: Sequence[int]) -> list[dict[str, Value]]:
    """Give each request of a batch its own rows of the outputs.

    Args:
        outputs: what the model returned for the stacked inputs.
        rows: how many rows each request brought, in the order of the batch.

    Returns:
        The outputs of each request, in that order. A request that ran alone gets them as they
        are. No two requests share an element; large outputs are copied apart.

    Raises:
        NotInRows: an output has not one row for each row of the inputs.

    >>> [part["y"].tolist() for part in split({"y": np.array([1, 2, 3])}, [1, 2])]
    [[1], [2, 3]]
    """
    if len(rows) == 1:
        return [dict(outputs)]
    parts: list[dict[str, Value]] = [{} for _ in rows]
    total = sum(rows)
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray) or not value.shape or value.shape[0] != total:
            raise NotInRows(_not_in_rows(name, value, total))
        begin = 0
        for part, count in zip(parts, rows, strict=True):
            own = value[begin : begin + count]
            part[name] = own.copy() if value.nbytes > OWN_MEMORY_BYTES else own
            begin += count
    return parts


def _not_in_rows(name: str, value: Value, total: int) -> str:
    found = f"has shape {list(value.shape)}" if isinstance(value, np.ndarray) else "is no array"
    return (
        f"the model ran {total} rows as one batch, but its output {name!r:.80} {found:.200}: "
        "a model that shares runs has to return one row for each row of its inputs; "
        "max_batch_rows = 1 turns sharing off"
    )
