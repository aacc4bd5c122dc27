"""Inputs that can be made up, so that the first request meets a model that has run before."""

from __future__ import annotations

import math

import numpy as np

from pelton.specs import ModelMetadata
from pelton.tensors import DATATYPES, Array

MOST_ELEMENTS = 1 << 20
"""Inputs with more elements than this are not made up."""


def zeros_for(metadata: ModelMetadata) -> dict[str, Array]:
    """Return zeros of the smallest shape that each declared input allows.

    Returns:
        Input name -> array; empty where nothing is declared, or an input is text or very large.
    """
    zeros: dict[str, Array] = {}
    for spec in metadata.inputs:
        shape = tuple(1 if dim == -1 else dim for dim in spec.shape)
        if spec.datatype == "BYTES" or math.prod(shape) > MOST_ELEMENTS:
            return {}
        zeros[spec.name] = np.zeros(shape, DATATYPES[spec.datatype].dtype)
    return zeros
