"""A model whose cost is known: 1 ms for each run and 0.1 ms for each row, like an accelerator's.

Served by Pelton as a `model.py`. It sleeps first, as the host of an accelerator would, and spins
for the last part, because sleeping alone overshoots by more than a row costs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

RUN_S = 1e-3
ROW_S = 1e-4
SPIN_S = 4e-4


def load_model(model_path: str, device: str) -> None:
    """There is nothing to load."""


def model_inference(obs: Mapping[str, Any]) -> Any:
    """Return the input, float32 [rows, 8], when its time is over."""
    x = obs["x"]
    end_s = time.perf_counter() + RUN_S + ROW_S * len(x)
    time.sleep(max(0.0, end_s - time.perf_counter() - SPIN_S))
    while time.perf_counter() < end_s:
        pass
    return x
