"""The trivially cheap model that every server of the payload scenario runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def load_model(model_path: str, device: str) -> None:
    """There is nothing to load; Pelton asks for the function."""


def model_inference(obs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the first 32 pixels of the first row of the first picture, as float32 [16, 6].

    Args:
        obs: `image` is uint8 [pictures, height, width, 3]; the rest is not looked at.
    """
    pixels: npt.NDArray[np.uint8] = obs["image"][0, 0, :32, :]
    return pixels.astype(np.float32).reshape(16, 6)
