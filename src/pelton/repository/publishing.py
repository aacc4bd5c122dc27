"""An upload's way into the repository: received, staged, published; or discarded, or set aside.

    receive  into a hidden file, bounded and hashed
    stage    unpacked into a hidden folder, with its manifest, read-only and flushed; it can be
             loaded from there
    publish  compared with its manifest, renamed to <root>/<model>/<version> in one step, flushed

Nobody sees a part of a version: a process that is killed at any point leaves the repository with
the version or without it, and what is half done lies in the hidden folder, to be swept. A version
that is there is never written to again.

All of it blocks, so it is called in threads; several uploads may be under way at once.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pelton.errors import Conflict, InvalidRequest, NotFound, SettingsError
from pelton.repository import archive, manifest
from pelton.repository.durable import (
    disk_errors_told,
    flush,
    flush_folder,
    remove_tree,
    write_file,
)
from pelton.repository.manifest import Manifest
from pelton.repository.names import (
    MODEL,
    VERSION,
    checked_model,
    checked_parts,
    checked_version,
    shown,
)
from pelton.repository.receiving import Incoming, Upload
from pelton.repository.tar_headers import BLOCK_BYTES
from pelton.repository.workplace import Workplace, held, new_id

_READ_ONLY_FILE, _READ_ONLY_FOLDER, _MOVABLE_FOLDER = 0o444, 0o555, 0o755
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_BESIDE_VERSIONS = ("model.toml", "config.pbtxt", "__pycache__")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Staged:
    """A version that is whole and can be loaded, but is not published.

    Attributes:
        model: the model's name.
        version: which version it shall become.
        folder: where it lies; its last two parts are the model's name and the version.
        manifest: what it consists of.
    """

    model: str
    version: int
    folder: Path
    manifest: Manifest


class Publisher:
    """Takes uploads for one repository.

    Args:
        root: the repository's folder: a folder of models.

    Raises:
        SettingsError: it is no folder of models, or cannot be written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            versions = [one.name for one in root.iterdir() if one.is_dir() and one.name.isdigit()]
            if versions:
                raise SettingsError(
                    f"{root} is the folder of one model, since it holds the version "
                    f"{min(versions):.40}; to publish, serve the folder above it"
                )
            self._workplace = Workplace(root)
        except OSError as error:
            raise SettingsError(
                f"nothing can be published in {root}: {error.strerror}; let the server's user "
                "write there, or turn publishing off"
            ) from error

    def close(self) -> None:
        """Remove what is not published yet."""
        with disk_errors_told("tidying up"):
            self._workplace.close()

    def check_free(self, model: str, version: int) -> None:
        """Check that a version could be published, as can be told before its bytes have come.

        Raises:
            InvalidRequest: the name or the number is none.
            Conflict: the version is there already, or the model has no versions.
        """
        folder = self._root / checked_model(model)
        checked_version(version)
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise Conflict(f"{shown(model)} cannot be published: a file has that name")
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is asked
        if str(version) in names:
            raise Conflict(
                f"{model} has a version {version} already; versions are never changed, so "
                "publish a new one"
            )
        if any(name.isdigit() for name in names):
            return
        if any(not name.startswith(".") and name not in _BESIDE_VERSIONS for name in names):
            raise Conflict(f"{model} is kept without versions; move its files into {model}/1 first")

    def receive(self, max_bytes: int) -> Incoming:
        """Open a file for an upload; use it as a context.

        Args:
            max_bytes: the most that is taken.

        Raises:
            Unavailable: the disk is full.
        """
        return Incoming(self._workplace.incoming / f"{new_id()}.part", max_bytes)

    def stage(self, upload: Upload, model: str, version: int, file_name: str = "") -> Staged:
        """Make a version of an upload, out of sight.

        Args:
            upload: what came; its file stays.
            model: the model's name.
            version: which version it shall become.
            file_name: name of the model's file where the upload is that file itself; empty where
                it is a tar.

        Raises:
            InvalidRequest: the name, the number or the archive is not as it must be.
            Unavailable: the disk is full.
        """
        checked_model(model)
        checked_version(version)
        folder = self._workplace.staging / new_id() / model / str(version)
        try:
            with disk_errors_told("unpacking the upload"):
                folder.parent.mkdir(parents=True)
                folder.mkdir(mode=0o700)
                _fill(folder, upload, file_name)
                found = manifest.measure(folder, f"{model}/{version}")
                manifest.write(folder, found)
                _seal(folder)
        except BaseException:
            with suppress(OSError):
                _remove_staged(folder)
            raise
        return Staged(model, version, folder, found)

    def publish(self, staged: Staged) -> Path:
        """Put a staged version into the repository.

        A link to it is left where it lay, for models that were loaded from there and open files
        later, or are loaded again; `discard` removes it.

        Returns:
            Its folder from now on.

        Raises:
            Conflict: the version is there already; nothing was changed.
            Unavailable: the disk is full.
            LoadFailed: its files were changed since it was staged.
            PeltonError: the disk could not say that all is written; the version is not there.
        """
        manifest.verify(staged.folder, f"{staged.model}/{staged.version}")
        with disk_errors_told("publishing"), held(self._root):
            staged.folder.chmod(_MOVABLE_FOLDER)
            folder = self._move(staged)
            try:
                folder.chmod(_READ_ONLY_FOLDER)
                for one in (folder, folder.parent, self._root):
                    flush_folder(one)
                _leave_link(staged.folder, folder)
            except OSError:
                with suppress(OSError):
                    self._take_out(staged.model, staged.version, staged.folder.parent.parent)
                raise
        return folder

    def _move(self, staged: Staged) -> Path:
        """Rename a staged version; a model's first one comes together with the model's folder."""
        folder = self._root / staged.model
        if not os.path.lexists(folder) and _renamed(staged.folder.parent, folder):
            return folder / str(staged.version)
        self.check_free(staged.model, staged.version)
        if not _renamed(staged.folder, folder / str(staged.version)):
            raise Conflict(f"{staged.model} has got a version {staged.version} just now")
        return folder / str(staged.version)

    def discard(self, staged: Staged) -> None:
        """Remove what is left of a staged version, published or not; may be called again."""
        with disk_errors_told("tidying up"):
            _remove_staged(staged.folder)

    def quarantine(self, model: str, version: int) -> Path:
        """Move a version out of sight of everybody who looks for models, and keep it.

        Args:
            model: the model's name.
            version: the version.

        Returns:
            Where it lies now.

        Raises:
            InvalidRequest: the name or the number is none.
            NotFound: there is no such version.
        """
        folder = self._root / checked_model(model) / str(checked_version(version))
        if not folder.is_dir():
            raise NotFound(f"{model} has no version {version}")
        aside = self._workplace.quarantine / new_id()
        with disk_errors_told("setting a version aside"), held(self._root):
            aside.mkdir()
            self._take_out(model, version, aside)
            for one in (aside, self._workplace.quarantine):
                flush_folder(one)
        return aside / model / str(version)

    def _take_out(self, model: str, version: int, into: Path) -> None:
        """Move a version out of the repository; an only one goes with the model's folder.

        A model's folder without anything in it would be an error at the next start.
        """
        folder = self._root / model
        if os.listdir(folder) == [str(version)]:  # noqa: PTH208 - names are all that is asked
            folder.rename(into / model)
        else:
            (into / model).mkdir(exist_ok=True)
            (folder / str(version)).chmod(_MOVABLE_FOLDER)
            (folder / str(version)).rename(into / model / str(version))
            flush_folder(folder)
        flush_folder(into / model)
        flush_folder(self._root)


def published(root: Path) -> list[tuple[str, int]]:
    """List the versions in a repository that came there by being published.

    Those that were laid there by hand have no manifest and are not listed.

    Args:
        root: the repository's folder.

    Returns:
        Model and version, in order.
    """
    found = []
    for path in root.glob(f"*/*/{manifest.FILE}"):
        model, version = path.parent.parent.name, path.parent.name
        if MODEL.fullmatch(model) and VERSION.fullmatch(version):
            found.append((model, int(version)))
    return sorted(found)


def _fill(folder: Path, upload: Upload, file_name: str) -> None:
    """Write into a folder what an upload holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with upload.path.open("rb") as file:
            if file_name:
                name = _checked_file_name(file_name)
                write_file(descriptor, name, iter(lambda: file.read(_CHUNK_BYTES), b""))
                return
            archive.check_is_tar(file.read(BLOCK_BYTES))
            entries = archive.survey(file, upload.size_bytes)
            archive.unpack(file, entries, descriptor)
    finally:
        os.close(descriptor)


def _checked_file_name(name: str) -> str:
    parts = checked_parts(name)
    if len(parts) > 1 or name.startswith("."):
        raise InvalidRequest(f"{shown(name)} is no name for a model's file, such as model.onnx")
    return name


def _seal(folder: Path) -> None:
    """Make a folder read-only with all that is in it, and flush the folders; files were before."""
    for _, folders, files, here in os.fwalk(folder, topdown=False):
        for name in files:
            os.chmod(name, _READ_ONLY_FILE, dir_fd=here)
        for name in folders:
            os.chmod(name, _READ_ONLY_FOLDER, dir_fd=here)
        flush(here)
    folder.chmod(_READ_ONLY_FOLDER)
    flush_folder(folder.parent)


def _renamed(one: Path, other: Path) -> bool:
    """Rename a folder; return False where there is something of that name."""
    try:
        one.rename(other)
    except OSError as error:
        if error.errno in _NOT_EMPTY:
            return False
        raise
    return True


def _leave_link(staged: Path, folder: Path) -> None:
    """Have the place where a version lay lead to where it lies now."""
    staged.parent.mkdir(exist_ok=True)  # which went along with a model's first version
    staged.symlink_to(folder.resolve(), target_is_directory=True)


def _remove_staged(folder: Path) -> None:
    with suppress(FileNotFoundError):
        remove_tree(folder.parent.parent)
