"""Lets every run begin with the same random numbers, whatever the author's code draws them from."""

from __future__ import annotations

import random
import sys

import numpy as np

SEED = 0


def seed_everything() -> None:
    """Set the generators that belong to the whole process: Python's, numpy's, PyTorch's.

    PyTorch is left alone where the model has not imported it. A generator that the model made for
    itself is its own affair.
    """
    random.seed(SEED)
    np.random.seed(SEED)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(SEED)
