"""Finds the models under a path.

    models/                     a folder of models
    |-- digits/                 one model; the folder's name is its name
    |   |-- model.toml          optional
    |   |-- 1/model.onnx        one file of a known kind per version
    |   `-- 2/model.onnx        the largest number answers for the name
    |-- policy/1/model.py       a model in plain Python is a folder with a model.py
    `-- scorer/model.onnx       without versions: this is version 1

The path may also be one such model's folder, or a single file. What is hidden and files of
unknown kinds are passed over; a folder in which no model can be found is an error, because its
owner thinks that it is served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pelton.errors import LoadFailed
from pelton.repository.model_toml import FILE as TOML
from pelton.repository.model_toml import ModelToml, inside, read_model_toml
from pelton.specs import ModelSpec

LAYOUT = "NAME/VERSION/model.onnx, such as digits/1/model.onnx"
"""The expected layout in short, for messages."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Claims = Mapping[str, str]
"""Which runtime loads what: a suffix such as `.onnx`, or the name of a file that makes the folder
around it the model, such as `model.py` -> the runtime's name."""


@dataclass(frozen=True, slots=True)
class _Model:
    """One model's folder.

    Attributes:
        name: the model's name.
        folder: its folder.
        versions: version -> the folder that holds its file, which is the model's own where
            there are no folders of versions.
    """

    name: str
    folder: Path
    versions: Mapping[int, Path]


def scan(path: Path, claims: Claims) -> list[ModelSpec]:
    """Find the models under a path, each in its latest version.

    Args:
        path: a model's file, a model's folder, or a folder of models.
        claims: which runtime loads which files.

    Returns:
        The models in the order of their names.

    Raises:
        LoadFailed: nothing is there, or something in it is not as it must be.
    """
    if _is_single_file(path, claims):
        return [_file_spec(path, claims)]
    return [_spec(model, max(model.versions), claims) for model in _models(path, claims)]


def scan_versions(path: Path, claims: Claims) -> list[ModelSpec]:
    """Find every version of the models under a path, ascending; else as `scan`."""
    if _is_single_file(path, claims):
        return [_file_spec(path, claims)]
    return [
        _spec(model, version, claims)
        for model in _models(path, claims)
        for version in sorted(model.versions)
    ]


def _is_single_file(path: Path, claims: Claims) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        raise LoadFailed(f"{path} does not exist") from None
    except OSError as error:
        raise LoadFailed(f"{path} cannot be read: {error.strerror}") from error
    return path.is_file() and path.name not in claims


def _file_spec(path: Path, claims: Claims) -> ModelSpec:
    runtime = _claimant(path.name, claims)
    if runtime is None:
        raise LoadFailed(
            f"{path} is no kind of model file that is known; known are {', '.join(claims)}"
        )
    return ModelSpec(_checked_name(path.stem, path), 1, path, runtime)


def _models(path: Path, claims: Claims) -> list[_Model]:
    if path.is_file():
        path = path.parent  # a model.py stands for its folder
    name, version = path.resolve().name, 1
    if _VERSION.fullmatch(name):
        name, version = path.resolve().parent.name, int(name)
    own = _model_in(path, name, version, claims)
    folders = [one for one in _listed(path) if one.is_dir()]
    if own is None:
        if not folders:
            raise LoadFailed(f"there is no model in {path}; expected is {LAYOUT}")
        return [_member(folder, claims) for folder in folders]
    is_file = any(name not in claims for name in _claimed(path, claims))
    if is_file and any(_looks_like_model(one, claims) for one in folders):
        raise LoadFailed(
            f"{path} holds both a model file and folders of models; expected is {LAYOUT}"
        )
    _checked_name(name, path)
    return [own]


def _member(folder: Path, claims: Claims) -> _Model:
    """Return the model in a folder of a folder of models."""
    model = _model_in(folder, folder.name, 1, claims)
    if model is None:
        raise LoadFailed(
            f"there is no model in the folder {folder.name!r:.140}; expected is {LAYOUT} "
            "(a folder whose name begins with a dot is passed over)"
        )
    _checked_name(model.name, folder)
    return model


def _model_in(folder: Path, name: str, version: int, claims: Claims) -> _Model | None:
    """Return the model whose folder this is, or None if it is no model's folder.

    Args:
        folder: the folder.
        name: the model's name.
        version: its version, should the folder hold the model itself.
        claims: which runtime loads which files.
    """
    versions = _versions(folder, name)
    holds_model = bool(_claimed(folder, claims))
    if holds_model and versions:
        raise LoadFailed(
            f"{name!r:.140} holds a model beside its folders of versions; move it into a folder "
            f"of its own, such as {name}/{max(versions) + 1}"
        )
    if not versions and (holds_model or (folder / TOML).exists()):
        versions = {version: folder}
    return _Model(name, folder, versions) if versions else None


def _versions(folder: Path, name: str) -> dict[int, Path]:
    folders = [one for one in _listed(folder) if one.is_dir()]
    versions = {int(one.name): one for one in folders if _VERSION.fullmatch(one.name)}
    for one in folders:
        if one.name.isdigit() and one not in versions.values():
            raise LoadFailed(
                f"{name}/{one.name:.40} is no version; versions are whole numbers from 1, "
                "written without zeros in front"
            )
    if versions and len(versions) < len(folders):
        other = next(one for one in folders if one not in versions.values())
        raise LoadFailed(
            f"{name}/{other.name:.140} stands among versions but is none; move it away, or "
            "rename it to a whole number"
        )
    return versions


def _spec(model: _Model, version: int, claims: Claims) -> ModelSpec:
    folder = model.versions[version]
    said, told = read_model_toml(model.folder, model.name), model.name
    if folder != model.folder:
        told = f"{model.name}/{version}"
        said = read_model_toml(folder, told).over(said)
    path, runtime = _locate(folder, told, said, claims)
    return ModelSpec(
        name=model.name,
        version=version,
        path=path,
        runtime=runtime,
        inputs=said.inputs,
        outputs=said.outputs,
        labels=said.labels,
        options=said.options,
        serving=said.serving,
    )


def _locate(folder: Path, told: str, said: ModelToml, claims: Claims) -> tuple[Path, str]:
    """Return the path of the one model in a folder, and the runtime that loads it."""
    if said.file is not None:
        path = inside(folder, said.file, told)
        runtime = said.runtime or claims.get(path.name) or _claimant(path.name, claims)
        if runtime is None:
            raise LoadFailed(
                f"{told}: nothing tells which runtime loads {path.name!r:.140}; "
                f"write `runtime = ...` into {TOML}"
            )
        return (path.parent if path.name in claims else path), runtime
    found = _claimed(folder, claims)
    if said.runtime is not None:
        found = {name: claim for name, claim in found.items() if claim == said.runtime}
        if not found and said.runtime not in claims.values():
            return folder, said.runtime
    if len(found) > 1:
        raise LoadFailed(
            f"{told} holds more than one model: {', '.join(sorted(found))[:300]}; keep one, or "
            f"write `file = ...` into {TOML}"
        )
    if not found:
        raise LoadFailed(
            f"there is no model file in {told}; expected is one that ends in or is called "
            f"{', '.join(claims)}"
        )
    name, runtime = found.popitem()
    return (folder if name in claims else folder / name), runtime


def _claimed(folder: Path, claims: Claims) -> dict[str, str]:
    """Return the models in a folder: file name -> runtime.

    A file that makes its folder the model comes before all others, which it may well load.
    """
    files = _files(folder, claims)
    marks = {name: claims[name] for name in files if name in claims}
    return marks or files


def _files(folder: Path, claims: Claims) -> dict[str, str]:
    found = {}
    for one in _listed(folder):
        runtime = claims.get(one.name) or _claimant(one.name, claims)
        if runtime is not None and not one.is_dir():
            found[one.name] = runtime
    return found


def _claimant(name: str, claims: Claims) -> str | None:
    """Return the runtime with the longest suffix that a file's name ends in."""
    fitting = [one for one in claims if one.startswith(".") and name.lower().endswith(one)]
    return claims[max(fitting, key=len)] if fitting else None


def _looks_like_model(folder: Path, claims: Claims) -> bool:
    inner = [one for one in _listed(folder) if one.is_dir() and _VERSION.fullmatch(one.name)]
    return any(_claimed(one, claims) for one in (folder, *inner))


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder and is not hidden, in order."""
    try:
        return sorted(
            one
            for one in folder.iterdir()
            if not one.name.startswith(".") and one.name != "__pycache__"
        )
    except OSError as error:
        raise LoadFailed(f"{folder.name!r:.140} cannot be read: {error.strerror}") from error


def _checked_name(name: str, path: Path) -> str:
    if not _NAME.fullmatch(name):
        raise LoadFailed(
            f"{path} would make a model called {name!r:.140}; rename it: a name has letters, "
            "digits, dots, dashes and underscores, at most 128, and begins with a letter or digit"
        )
    return name
