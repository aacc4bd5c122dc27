"""Folders with a `model.py`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from pelton.runtimes.contract import LoadedModel, RuntimeOptions
from pelton.runtimes.python.model import load
from pelton.specs import ModelSpec

PAIR = """
    def load_model(model_path, device):
        global factor
        factor = 3

    def model_inference(obs):
        return obs["x"] * factor
"""
X = np.array([1.0, 2.0], np.float32)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, code in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
    return folder


def opened(folder: Path, code: str | dict[str, str], **spec: Any) -> LoadedModel:
    written(folder, {"model.py": code} if isinstance(code, str) else code)
    return load(ModelSpec("m", 1, folder, "python", **spec), RuntimeOptions(device="cuda:7"))


def answer(folder: Path, code: str, inputs: dict[str, Any], **spec: Any) -> Any:
    return opened(folder, code, **spec).run(inputs)
