"""The classification extension: a tensor of scores becomes its highest classes, as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pelton.errors import InvalidRequest
from pelton.tensors import Array
from pelton.wire.element_lists import object_array


def classify(scores: Array, most: int, labels: Sequence[str], what: str) -> Array:
    """Name the highest scores along the last axis.

    Triton's classification extension. Of equal scores the one with the smaller index comes
    first, and NaN comes last. A score is written in as many digits as tell it from its
    neighbours, not in a fixed number.

    Args:
        scores: numbers, shape [..., classes].
        most: how many classes are wanted; all of them if there are fewer.
        labels: class names by index; where it is too short, the text has no name.
        what: how the error shall name the tensor.

    Returns:
        bytes in an object array, `score:index` or `score:index:label`, shape
        [..., min(most, classes)].

    Raises:
        InvalidRequest: the tensor holds no numbers or has no axis.
    """
    if scores.ndim == 0 or scores.dtype.kind not in "biuf":
        raise InvalidRequest(f"{what} holds no scores, so it cannot be classified")
    # The complement turns the order of any integer type around, and cannot overflow as minus can.
    descending = np.negative(scores) if scores.dtype.kind == "f" else np.invert(scores)
    best = np.argsort(descending, axis=-1, kind="stable")[..., :most]
    values = np.take_along_axis(scores, best, axis=-1)
    texts = [
        f"{value!s}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
        for value, index in zip(values.ravel(), best.ravel().tolist(), strict=True)
    ]
    return object_array([text.encode("utf-8") for text in texts]).reshape(best.shape)
