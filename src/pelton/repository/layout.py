"""Which folders are models, and which are versions of them; see `scan` for a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pelton.errors import LoadFailed
from pelton.repository.model_toml import FILE as TOML
from pelton.repository.names import MAX_VERSION, MODEL
from pelton.repository.own_files import refuse_endless
from pelton.repository.triton import FILE as TRITON

EXPECTED = "NAME/VERSION/model.onnx, such as digits/1/model.onnx"
"""The expected layout in short, for messages."""

VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""The name of a version's folder."""

Claims = Mapping[str, str]
"""Which runtime loads what: a suffix such as `.onnx`, or the name of a file that makes the folder
around it the model, such as `model.py` -> the runtime's name."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
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


def is_single_file(path: Path, claims: Claims) -> bool:
    """Return whether a path is a model's file, and not a folder or what stands for one.

    Raises:
        LoadFailed: nothing is there, or it cannot be read.
    """
    try:
        path.stat()
    except FileNotFoundError:
        raise LoadFailed(f"{path} does not exist") from None
    except OSError as error:
        raise LoadFailed(f"{path} cannot be read: {error.strerror}") from error
    return path.is_file() and path.name not in claims


def top_model(path: Path, claims: Claims) -> ModelFolder | None:
    """Return the model whose folder a path is; None for a folder of models.

    Args:
        path: the folder of a model, of one version of it, or of models; or a file that stands
            for its folder.
        claims: which runtime loads which files.

    Raises:
        LoadFailed: the folder is not as it must be.
    """
    if path.is_file():
        path = path.parent  # a model.py stands for its folder
    name, version = path.resolve().name, 1
    if VERSION.fullmatch(name):
        name, version = path.resolve().parent.name, int(name)
    own = _model_in(path, name, version, claims)
    if own is None:
        return None
    is_file = any(name not in claims for name in claimed(path, claims))
    if is_file and any(_looks_like_model(one, claims) for one in _folders(path)):
        raise LoadFailed(
            f"{path} holds both a model file and folders of models; expected is {EXPECTED}"
        )
    checked_name(name, path)
    return own


def member_folders(path: Path) -> list[Path]:
    """Return the folders in a folder of models, in order.

    Raises:
        LoadFailed: there is none.
    """
    folders = _folders(path)
    if not folders:
        raise LoadFailed(f"there is no model in {path}; expected is {EXPECTED}")
    return folders


def member(folder: Path, claims: Claims) -> ModelFolder:
    """Return the model in a folder of a folder of models.

    Raises:
        LoadFailed: there is none, or the folder is not as it must be.
    """
    model = _model_in(folder, folder.name, 1, claims)
    if model is None:
        raise LoadFailed(
            f"there is no model in the folder {folder.name!r:.140}; expected is {EXPECTED} "
            "(a folder whose name begins with a dot is passed over)"
        )
    checked_name(model.name, folder)
    return model


def checked_name(name: str, path: Path) -> str:
    """Return the name of a model.

    Raises:
        LoadFailed: a model cannot be called so.
    """
    if not MODEL.fullmatch(name):
        raise LoadFailed(
            f"{path} would make a model called {name!r:.140}; rename it: a name has letters, "
            "digits, dots, dashes and underscores, at most 128, and begins with a letter or digit"
        )
    return name


def claimed(folder: Path, claims: Claims) -> dict[str, str]:
    """Return the models in a folder: file name -> runtime.

    A file that makes its folder the model comes before all others, which it may well load.

    Raises:
        LoadFailed: the folder cannot be read, or what should be a model is no plain file.
    """
    files = {}
    for one in _listed(folder):
        runtime = claims.get(one.name) or claimant(one.name, claims)
        if runtime is not None and not one.is_dir():
            files[one.name] = runtime
    marks = {name: claims[name] for name in files if name in claims}
    found = marks or files
    for name in found:
        refuse_endless(folder / name, f"{folder.name}/{name}")
    return found


def claimant(name: str, claims: Claims) -> str | None:
    """Return the runtime with the longest suffix that a file's name ends in."""
    fitting = [one for one in claims if one.startswith(".") and name.lower().endswith(one)]
    return claims[max(fitting, key=len)] if fitting else None


def _model_in(folder: Path, name: str, version: int, claims: Claims) -> ModelFolder | None:
    """Return the model whose folder this is, or None if it is no model's folder.

    Args:
        folder: the folder.
        name: the model's name.
        version: its version, should the folder hold the model itself.
        claims: which runtime loads which files.
    """
    if (folder / TRITON).is_file():
        return ModelFolder(name, folder, _triton_versions(folder, name))
    versions = _versions(folder, name)
    holds_model = bool(claimed(folder, claims))
    if holds_model and versions:
        raise LoadFailed(
            f"{name!r:.140} holds a model beside its folders of versions; move it into a folder "
            f"of its own, such as {name}/{max(versions) + 1}"
        )
    if not versions and (holds_model or (folder / TOML).exists()):
        versions = {version: folder}
    return ModelFolder(name, folder, versions) if versions else None


def _versions(folder: Path, name: str) -> dict[int, Path]:
    folders = _folders(folder)
    versions = {int(one.name): one for one in folders if VERSION.fullmatch(one.name)}
    for one in folders:
        if one.name.isdigit() and one not in versions.values():
            raise _no_version(name, one)
    if versions and len(versions) < len(folders):
        other = next(one for one in folders if one not in versions.values())
        raise LoadFailed(
            f"{name}/{other.name:.140} stands among versions but is none; move it away, or "
            "rename it to a whole number"
        )
    return versions


def _triton_versions(folder: Path, name: str) -> dict[int, Path]:
    """Return the versions in Triton's layout, which passes over all other folders."""
    folders = [one for one in _folders(folder) if re.fullmatch(r"[1-9][0-9]*", one.name)]
    for one in folders:
        if not VERSION.fullmatch(one.name):
            raise _no_version(name, one)
    return {int(one.name): one for one in folders}


def _no_version(name: str, folder: Path) -> LoadFailed:
    return LoadFailed(
        f"{name}/{folder.name:.40} is no version; versions are whole numbers from 1 to "
        f"{MAX_VERSION}, written without zeros in front"
    )


def _looks_like_model(folder: Path, claims: Claims) -> bool:
    inner = [one for one in _folders(folder) if VERSION.fullmatch(one.name)]
    return any(claimed(one, claims) for one in (folder, *inner))


def _folders(folder: Path) -> list[Path]:
    return [one for one in _listed(folder) if one.is_dir()]


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
