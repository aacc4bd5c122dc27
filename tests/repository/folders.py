"""Folders of models that hold empty files: the repository never opens a model."""

from __future__ import annotations

import textwrap
from pathlib import Path

CLAIMS = {".onnx": "onnx", ".pt": "torch", ".pt2": "torch", "model.py": "python"}


def tree(root: Path, *files: str) -> Path:
    """Write empty files; a name that ends in a slash is a folder."""
    for name in files:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def toml(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(textwrap.dedent(text), encoding="utf-8")
    return folder
