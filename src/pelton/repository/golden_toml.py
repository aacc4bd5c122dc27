"""Reads `[[golden]]` of a `model.toml`: requests that a version must answer well to be served.

    [[golden]]
    name = "three flowers"
    inputs = {x = [[5.1, 3.5, 1.4, 0.2]]}     # or a file beside: .npz, .json, .npy for one tensor
    outputs = "expected.npz"                  # likewise; may be missing
    atol = 1e-5
    rtol = 1e-3
    agreement = 0.99
    latency_factor = 3

A row names files and holds nested lists; `golden.load_golden` turns them into arrays once the
model has said what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pelton.errors import LoadFailed
from pelton.repository.arrays import SUFFIXES
from pelton.repository.own_files import inside
from pelton.repository.toml_values import Read, checked, number
from pelton.specs import GoldenSource

MAX_GOLDEN = 256
"""Most golden requests of one model."""


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 80 or not value.isprintable():
        raise ValueError("a text of 1 to 80 characters")
    return value


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("a share from 0 to 1")
    return float(value)


def _tensors(value: Any) -> str | Mapping[str, Any]:
    if isinstance(value, str) or (isinstance(value, dict) and value):
        return value
    raise ValueError("a file, or a table with the nested lists of each tensor")


_BOUNDS: Mapping[str, Read] = {
    "atol": number("units", zero=True),
    "rtol": number("parts", zero=True),
    "agreement": _share,
    "latency_factor": number("times", zero=True),
}

IN_GOLDEN: Mapping[str, Read] = {
    "name": _name,
    "inputs": _tensors,
    "outputs": _tensors,
    **_BOUNDS,
}
"""Key of a row -> how its value is read."""


def read_golden(
    rows: Sequence[Mapping[str, Any]], folder: Path, told: str
) -> tuple[GoldenSource, ...]:
    """Return the golden requests of a file.

    Args:
        rows: the rows of `[[golden]]`, whose keys are known ones.
        folder: where the `model.toml` lies, and inside of it the files that it names.
        told: begins every message.

    Raises:
        LoadFailed: a row is not as it must be, or a file that it names is not there.
    """
    if len(rows) > MAX_GOLDEN:
        raise LoadFailed(f"{told}: there are {len(rows)} of [[golden]]; at most {MAX_GOLDEN} fit")
    sources = [_source(row, folder, told) for row in rows]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise LoadFailed(f"{told}: two of [[golden]] are called {name!r}")
    return tuple(sources)


def _source(row: Mapping[str, Any], folder: Path, told: str) -> GoldenSource:
    said = checked(row, IN_GOLDEN, told, " in [[golden]]")
    for wanted in ("name", "inputs"):
        if wanted not in said:
            raise LoadFailed(f"{told}: every one of [[golden]] needs `{wanted}`")
    for key in ("inputs", "outputs"):
        if isinstance(said.get(key), str):
            said[key] = _file(said[key], folder, told)
    bounds = {key: said[key] for key in _BOUNDS if key in said}
    return GoldenSource(said["name"], said["inputs"], said.get("outputs"), bounds)


def _file(name: str, folder: Path, told: str) -> Path:
    path = inside(folder, name, told)
    if path.suffix not in SUFFIXES:
        raise LoadFailed(
            f"{told}: {name!r:.120} is no file of arrays; known are {', '.join(SUFFIXES)}"
        )
    return path
