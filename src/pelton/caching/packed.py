"""An answer of arrays in the form in which many are kept: elements, and a description beside them.

Answers of one model mostly have outputs of the same names, dtypes and shapes. So the description
is shared by all that agree in it, and an answer takes what its elements take, and two tuples.

Tuples of bytes and of other such tuples are left alone by Python's collector of cycles once it has
seen them. A cache of dicts or named tuples would have it look at each of some ten thousand
answers again and again, and stop the event loop meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from pelton.caching.entry import ARRAY_BYTES, ENTRY_BYTES, VALUE_BYTES
from pelton.messages import Value

Row = tuple[str, np.dtype[Any], tuple[int, ...]]
"""One output: its name, its dtype, its shape."""

Packed = tuple[tuple[Row, ...], tuple[bytes, ...]]
"""An answer: what its outputs are, and the elements of each in C order."""

_KINDS = "biufc"


class Packing:
    """Packs the answers of one model.

    Attributes:
        size_bytes: the memory that the answer takes that was packed last.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._rows: tuple[Row, ...] = ()  # of that one
        self._names: tuple[str, ...] | None = None

    def pack(self, outputs: Mapping[str, Value], limit_bytes: float) -> Packed | None:
        """Return a copy of an answer, packed.

        Args:
            outputs: output name -> array.
            limit_bytes: the most that it may take.

        Returns:
            The answer; None where it would take more, or an output is no array of numbers.
        """
        if tuple(outputs) != self._names:
            return self._pack_others(outputs, limit_bytes)
        contents: tuple[bytes, ...] = ()
        for name, dtype, shape in self._rows:
            value = outputs[name]
            if type(value) is not ndarray or value.dtype != dtype or value.shape != shape:
                return self._pack_others(outputs, limit_bytes)
            contents += (value.tobytes(),)
        return self._rows, contents

    def _pack_others(self, outputs: Mapping[str, Value], limit_bytes: float) -> Packed | None:
        """Pack an answer that is not like the one before it."""
        self._names = None
        size_bytes = ENTRY_BYTES
        for value in outputs.values():
            if type(value) is not ndarray or value.dtype.kind not in _KINDS:
                return None
            size_bytes += VALUE_BYTES + ARRAY_BYTES + value.nbytes
        if size_bytes > limit_bytes:
            return None
        self._rows = tuple((name, value.dtype, value.shape) for name, value in outputs.items())
        self._names = tuple(outputs)
        self.size_bytes = size_bytes
        return self._rows, tuple(value.tobytes() for value in outputs.values())


def unpacked(packed: Packed) -> dict[str, Value]:
    """Return the outputs for one who asked; nobody can write to their arrays."""
    rows, contents = packed
    return {
        name: np.ndarray(shape, dtype, content)
        for (name, dtype, shape), content in zip(rows, contents, strict=True)
    }
