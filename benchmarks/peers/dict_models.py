"""The model that a server of dicts was told to run, for those that serve two scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import observation

Model = Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]


def chosen(arguments: list[str]) -> Model:
    """Return the model of `small` for one argument, its path, else that of `payload`."""
    if not arguments:
        return observation.model_inference
    import matrix

    run = matrix.load(arguments[0])
    return lambda obs: run(obs["x"])
