"""Finds the models under a path.

    models/                     a folder of models
    |-- digits/                 one model; the folder's name is its name
    |   |-- model.toml          optional
    |   |-- 1/model.onnx        one file of a known kind per version
    |   `-- 2/model.onnx        the largest number answers for the name
    |-- policy/1/model.py       a model in plain Python is a folder with a model.py
    |-- boxes/                  a model as Triton has it, see `triton`
    |   |-- config.pbtxt
    |   `-- 1/model.onnx
    `-- scorer/model.onnx       without versions: this is version 1

The path may also be one such model's folder, or a single file. What is hidden and files of
unknown kinds are passed over; a folder in which no model can be found is an error, because its
owner thinks that it is served.

`survey` tells all that is there, with what is wrong with each; `scan` is for a plain start, and
refuses it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pelton.errors import LoadFailed
from pelton.repository.keeping_toml import keeping_of, refuse_in_version
from pelton.repository.layout import (
    Claims,
    ModelFolder,
    checked_name,
    claimant,
    claimed,
    is_single_file,
    member,
    member_folders,
    top_model,
)
from pelton.repository.model_toml import FILE as TOML
from pelton.repository.model_toml import ModelToml, read_model_toml
from pelton.repository.names import MODEL
from pelton.repository.own_files import inside, refuse_endless
from pelton.repository.triton import FILE as TRITON
from pelton.repository.triton import read_config, with_file
from pelton.repository.versions import chosen_versions
from pelton.specs import ModelSpec, VersionPolicy

logger = logging.getLogger("pelton.repository")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model as it lies there.

    Attributes:
        name: the model's name.
        versions: each version that is there, ascending -> how it is to be loaded, or why it
            cannot be.
        chosen: the versions that its policy wants loaded, ascending; broken ones too.
        broken: why nothing of it can be loaded; None where that is not so.
        warnings: what was said of it and has no effect, a sentence each.
    """

    name: str
    versions: Mapping[int, ModelSpec | LoadFailed] = field(default_factory=dict)
    chosen: tuple[int, ...] = ()
    broken: LoadFailed | None = None
    warnings: tuple[str, ...] = ()

    def specs(self) -> list[ModelSpec]:
        """Return the chosen versions that can be loaded, ascending."""
        found = (self.versions[version] for version in self.chosen)
        return [spec for spec in found if isinstance(spec, ModelSpec)]

    def reason(self, version: int) -> str:
        """Return why a version is not to be loaded; empty for one that is."""
        found = self.versions.get(version)
        if found is None:
            return f"version {version} is not there"
        if isinstance(found, LoadFailed):
            return found.message
        return "" if version in self.chosen else "the model's version policy leaves it out"


def survey(path: Path, claims: Claims) -> list[FoundModel]:
    """Find all models under a path, in all their versions, broken ones too.

    Args:
        path: a model's file, a model's folder, or a folder of models.
        claims: which runtime loads which files.

    Returns:
        The models in the order of their names.

    Raises:
        LoadFailed: nothing is there, or it cannot be told what the path is.
    """
    if is_single_file(path, claims):
        spec = _file_spec(path, claims)
        return [FoundModel(spec.name, {1: spec}, (1,))]
    own = top_model(path, claims)
    if own is not None:
        return [_found(own, claims)]
    return [_found_member(folder, claims) for folder in member_folders(path)]


def survey_one(root: Path, name: str, claims: Claims) -> FoundModel | None:
    """Find one model of a folder of models, as `survey` does.

    Args:
        root: the folder of models.
        name: the model's name, which may come from a request.
        claims: which runtime loads which files.

    Returns:
        The model; None where there is no folder of that name.
    """
    if not MODEL.fullmatch(name) or not (root / name).is_dir():
        return None
    return _found_member(root / name, claims)


def spec_elsewhere(root: Path, name: str, version: int, folder: Path, claims: Claims) -> ModelSpec:
    """Return how a version would be loaded that lies elsewhere, as if it lay in its place.

    So a version is looked at before it is published, with what is said of its model.

    Args:
        root: the folder of models.
        name: the model's name; the model need not be there yet.
        version: which version it shall be.
        folder: where it lies.
        claims: which runtime loads which files.

    Raises:
        LoadFailed: it is not as it must be, or what is said of the model is not.
    """
    model = ModelFolder(checked_name(name, root / name), root / name, {version: folder})
    said, _ = _said(model)
    return _spec(model, version, said, claims)


def scan(path: Path, claims: Claims) -> list[ModelSpec]:
    """Find the models under a path, each in the version that answers for its name.

    Args:
        path: as for `survey`.
        claims: likewise.

    Returns:
        The largest version of each that its policy wants loaded, in the order of their names.

    Raises:
        LoadFailed: nothing is there, or something in it is not as it must be.
    """
    models = survey(path, claims)
    specs = [_sound(model, model.chosen[-1:])[0] for model in models]
    for model in models:
        for warning in model.warnings:
            logger.warning("%s", warning)
    return specs


def scan_versions(path: Path, claims: Claims) -> list[ModelSpec]:
    """Find every version of the models under a path, ascending; else as `scan`."""
    return [spec for one in survey(path, claims) for spec in _sound(one, tuple(one.versions))]


def _sound(model: FoundModel, versions: tuple[int, ...]) -> list[ModelSpec]:
    """Return versions of a model, or raise what is wrong with the model or one of them."""
    if model.broken is not None:
        raise model.broken
    specs = []
    for version in versions:
        found = model.versions[version]
        if isinstance(found, LoadFailed):
            raise found
        specs.append(found)
    return specs


def _file_spec(path: Path, claims: Claims) -> ModelSpec:
    runtime = claimant(path.name, claims)
    if runtime is None:
        raise LoadFailed(
            f"{path} is no kind of model file that is known; known are {', '.join(claims)}"
        )
    return ModelSpec(checked_name(path.stem, path), 1, path, runtime)


def _found_member(folder: Path, claims: Claims) -> FoundModel:
    try:
        return _found(member(folder, claims), claims)
    except LoadFailed as error:
        return FoundModel(folder.name, broken=error)
    except OSError as error:  # such as a folder that may be listed and not looked into
        reason = f"{folder.name!r:.140} cannot be read: {error.strerror}"
        return FoundModel(folder.name, broken=LoadFailed(reason))


def _found(model: ModelFolder, claims: Claims) -> FoundModel:
    """Return a model with all its versions; what is wrong with it is told in the result."""
    versions: dict[int, ModelSpec | LoadFailed] = {}
    try:
        said, warnings = _said(model)
        policy = said.keeping.get("policy", VersionPolicy())
        chosen = _chosen(model, policy)
    except LoadFailed as error:
        # Each version is told with the reason, so that an index of them says why.
        return FoundModel(model.name, dict.fromkeys(sorted(model.versions), error), broken=error)
    for version in sorted(model.versions):
        try:
            versions[version] = _spec(model, version, said, claims)
        except LoadFailed as error:
            versions[version] = error
    absent = _absent(model, policy, said.keeping.get("version_labels", {}))
    return FoundModel(model.name, versions, chosen, warnings=(*warnings, *absent))


def _said(model: ModelFolder) -> tuple[ModelToml, tuple[str, ...]]:
    """Return what is said of all versions of a model, and warnings."""
    said = read_model_toml(model.folder, model.name)
    config = read_config(model.folder, model.name)
    if config is None:
        return said, ()
    if not model.versions:
        raise LoadFailed(
            f"{model.name!r:.140} has a {TRITON} and no folder of a version, such as "
            f"{model.name:.140}/1"
        )
    return said.over(config.said), config.warnings


def _chosen(model: ModelFolder, policy: VersionPolicy) -> tuple[int, ...]:
    chosen = chosen_versions(policy, model.versions)
    if not chosen:
        raise LoadFailed(
            f"the version policy of {model.name!r:.140} names {_listed(policy.only)}, and there "
            f"is only {_listed(model.versions)}"
        )
    return chosen


def _absent(
    model: ModelFolder, policy: VersionPolicy, labels: Mapping[str, int]
) -> tuple[str, ...]:
    """Return warnings of versions that are named and are not there."""
    return tuple(
        f"{model.name}: {what} names version {version}, which is not there"
        for what, version in (
            *(("the version policy", version) for version in policy.only),
            *((f"the version label {label!r}", version) for label, version in labels.items()),
        )
        if version not in model.versions
    )


def _listed(versions: Mapping[int, Path] | tuple[int, ...]) -> str:
    return f"{', '.join(map(str, sorted(versions))):.80}"


def _spec(model: ModelFolder, version: int, said: ModelToml, claims: Claims) -> ModelSpec:
    folder, told = model.versions[version], model.name
    if folder != model.folder:
        told = f"{model.name}/{version}"
        own = read_model_toml(folder, told)
        refuse_in_version(own.keeping, f"{told}/{TOML}", model.name)
        said = own.over(said)
    if (model.folder / TRITON).is_file():
        said = with_file(said, folder)
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
        golden=said.golden,
        declared_in=said.declared_in,
        **keeping_of(said.keeping, version),
    )


def _locate(folder: Path, told: str, said: ModelToml, claims: Claims) -> tuple[Path, str]:
    """Return the path of the one model in a folder, and the runtime that loads it."""
    if said.file is not None:
        path = inside(folder, said.file, told)
        refuse_endless(path, f"{told}: {said.file!r:.120}")
        runtime = said.runtime or claims.get(path.name) or claimant(path.name, claims)
        if runtime is None:
            raise LoadFailed(
                f"{told}: nothing tells which runtime loads {path.name!r:.140}; "
                f"write `runtime = ...` into {TOML}"
            )
        return (path.parent if path.name in claims else path), runtime
    found = claimed(folder, claims)
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
