"""bfloat16 is the upper half of a float32; numpy has no type for it, so float32 stands in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_QUIET_BIT = 0x40


def widen(halves: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the float32 array that holds the same numbers.

    Args:
        halves: the bits of bfloat16 numbers, uint16 of any shape.
    """
    bits = halves.astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def narrow(array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16 numbers; of two equally near ones, the even.

    Infinities stay, a number beyond the largest bfloat16 becomes one, and NaN stays NaN with
    its sign and the upper bits of its payload.

    Args:
        array: float32 of any shape.

    Returns:
        uint16 of the same shape.
    """
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    bits = flat.view(np.uint32)
    upper = bits >> 16
    # Half a step less one, plus one more where the number kept would be odd.
    rounded = (bits + np.uint32(0x7FFF) + (upper & 1)) >> 16
    # A NaN must not round up to infinity, nor lose its payload and so become infinity.
    kept = np.where(np.isnan(flat), upper | _QUIET_BIT, rounded)
    return kept.astype(np.uint16).reshape(array.shape)
