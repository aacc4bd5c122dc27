"""A model in Python whose answer tells which version of it has answered: the input plus `VERSION`.

The scenario `swap` writes it with other values in the lines below; each kind but `good` and
those that are late is to be refused before it answers anybody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

VERSION = 0
KIND = "good"

SLOW_S = 0.02
LATE_RUNS = 800
"""More than the golden requests need, so that nothing is wrong before it answers callers."""

_runs = 0


def load_model(model_path: str, device: str) -> None:
    """Load nothing, or fail to."""
    if KIND == "unloadable":
        raise RuntimeError("this version cannot be loaded, on purpose")


def model_inference(obs: Mapping[str, Any]) -> Any:
    """Take float32 [rows, 64] and return as much, plus the version."""
    global _runs
    _runs += 1
    y = obs["x"] + np.float32(VERSION)
    late = KIND if _runs > LATE_RUNS else ""
    if late == "late raise":
        raise RuntimeError("this version fails in service, on purpose")
    if late == "late exit":
        os._exit(1)
    if KIND == "nan" or late == "late nan":
        y[:] = np.nan
    if KIND == "shape":
        y = np.concatenate([y, y], axis=1)
    if KIND == "slow":
        time.sleep(SLOW_S)
    return y
