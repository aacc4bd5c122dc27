"""The folder of models as the keeper looks at it; all of it blocks, so it is called in threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pelton.errors import LoadFailed
from pelton.lifecycle.version import Source
from pelton.repository import manifest
from pelton.repository.layout import is_single_file, top_model
from pelton.repository.publishing import Staged
from pelton.repository.scan import FoundModel, spec_elsewhere, survey, survey_one
from pelton.specs import ModelSpec


class RepositoryView:
    """A folder of models, or what stands for one.

    Attributes:
        root: the path that is served.
        is_folder: whether it is a folder of models, in which they may come and go.
    """

    def __init__(self, root: Path, claims: Mapping[str, str]) -> None:
        """Look at a path.

        Args:
            root: a model's file, a model's folder, or a folder of models.
            claims: which runtime loads which files.

        Raises:
            LoadFailed: nothing is there, or it cannot be read.
        """
        self.root = root
        self._claims = claims
        single = is_single_file(root, claims)
        self.is_folder = not single and top_model(root, claims) is None

    def is_empty(self) -> bool:
        """Tell whether there is no model yet in a folder of models."""
        return self.is_folder and not any(
            one.is_dir() and not one.name.startswith(".") for one in self.root.iterdir()
        )

    def all(self) -> list[FoundModel]:
        """Return all models; see `survey`.

        Raises:
            LoadFailed: there is none.
        """
        return survey(self.root, self._claims)

    def one(self, name: str) -> FoundModel | None:
        """Return one model; None where there is none of that name, which may be anybody's word.

        Raises:
            LoadFailed: the path cannot be read.
        """
        if self.is_folder:
            return survey_one(self.root, name, self._claims)
        return next((one for one in self.all() if one.name == name), None)

    def staged(self, staged: Staged) -> ModelSpec:
        """Return how a staged version would be loaded; see `spec_elsewhere`.

        Raises:
            LoadFailed: it is not as it must be.
        """
        model, version = staged.model, staged.version
        return spec_elsewhere(self.root, model, version, staged.folder, self._claims)

    def source(self, spec: ModelSpec) -> Source:
        """Return a version in its place, whose files are what was published, or what is pinned.

        Raises:
            LoadFailed: they are not.
        """
        folder, told = self.root / spec.name / str(spec.version), _told(spec)
        if spec.digest:
            check_digest(spec, manifest.measure(_folder_of(spec, folder), told).digest)
            return Source(spec)
        was_published = folder.is_dir() and manifest.read(folder, told) is not None
        digest = manifest.verify(folder, told).digest if was_published else ""
        return Source(dataclasses.replace(spec, digest=digest))


def check_digest(spec: ModelSpec, digest: str) -> None:
    """Check that a version is the one that its owner means.

    Raises:
        LoadFailed: its `model.toml` names another digest.
    """
    if spec.digest and spec.digest != digest:
        raise LoadFailed(
            f"{_told(spec)} has the digest {digest}, and its model.toml says {spec.digest}; put "
            "the files back that were meant, or correct the digest"
        )


def _folder_of(spec: ModelSpec, usual: Path) -> Path:
    if usual.is_dir():
        return usual
    return spec.path if spec.path.is_dir() else spec.path.parent


def _told(spec: ModelSpec) -> str:
    return f"{spec.name}/{spec.version}"
