"""What a version consists of: each file's path, size and SHA-256, and one digest over all of it.

The digest is the SHA-256 of the manifest's canonical text: a first line with the format, and then
for each file, in the order of its path's UTF-8 bytes,

    SHA-256 in hexadecimal, space, size in bytes, space, path with slashes, line feed

It depends on nothing else: not on dates, owners, modes, empty folders, or on the manifest's own
file, which lies in the version's folder and is not listed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from pelton.errors import LoadFailed
from pelton.repository.durable import write_file
from pelton.repository.names import MAX_DEPTH, shown

FILE = ".pelton-manifest.json"
"""Name of the manifest's file in a version's folder; hidden, so that it is no file of a model."""

FORMAT = "pelton-manifest-1"

MAX_FILE_BYTES = 32 << 20
"""Size above which no manifest is read; 10,000 files of the longest names need less."""

_MAX_DEPTH = 2 * MAX_DEPTH
"""How deep a folder may be that was laid there by hand."""

_NO_SURPRISE = os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a version.

    Attributes:
        size_bytes: its size.
        sha256: of its bytes, in lower-case hexadecimal.
    """

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one version.

    Attributes:
        files: path with slashes, below the version's folder -> its record.
    """

    files: Mapping[str, FileRecord]

    @property
    def text(self) -> str:
        """The canonical text."""
        lines = (
            f"{self.files[path].sha256} {self.files[path].size_bytes} {path}\n"
            for path in sorted(self.files, key=str.encode)
        )
        return f"{FORMAT}\n{''.join(lines)}"

    @property
    def digest(self) -> str:
        """`sha256:HEX` of the canonical text: the digest of the version."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(one.size_bytes for one in self.files.values())


def measure(folder: Path, told: str = "") -> Manifest:
    """Make the manifest of what lies in a folder now.

    Args:
        folder: a version's folder.
        told: how messages shall name it; its own name if empty.

    Raises:
        LoadFailed: something in it is neither a regular file nor a folder, has a name that cannot
            be listed, or cannot be read.
    """
    told = told or folder.name
    with _told(told):
        return Manifest({path: _record(folder / path) for path in _files(folder, told)})


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest into its version's folder, and wait until it is on the disk.

    Raises:
        OSError: it could not be written, or is there already.
    """
    files = [
        {"path": path, "size_bytes": one.size_bytes, "sha256": one.sha256}
        for path, one in sorted(manifest.files.items())
    ]
    plain = {"format": FORMAT, "digest": manifest.digest, "files": files}
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_file(descriptor, FILE, [json.dumps(plain, indent=1).encode() + b"\n"])
    finally:
        os.close(descriptor)


def read(folder: Path, told: str = "") -> Manifest | None:
    """Read the manifest of a version, without looking at the files that it lists.

    Args:
        folder: the version's folder.
        told: how messages shall name it; its own name if empty.

    Returns:
        The manifest, or None where there is none, as in folders that were laid there by hand.

    Raises:
        LoadFailed: it is broken, or was changed.
    """
    told = told or folder.name
    try:
        with _opened(folder / FILE) as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoadFailed(f"{told}: its manifest cannot be read: {error.strerror}") from error
    try:
        plain: Any = json.loads(text) if len(text) <= MAX_FILE_BYTES else None
        manifest, digest = _from_plain(plain), plain["digest"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LoadFailed(f"{told}: its manifest is broken; publish the version again") from None
    if manifest.digest != digest:
        raise LoadFailed(f"{told}: its manifest was changed; publish the version again")
    return manifest


def _from_plain(plain: Any) -> Manifest:
    if plain["format"] != FORMAT:
        raise ValueError(plain["format"])
    files = {}
    for one in plain["files"]:
        path, size_bytes, sha256 = one["path"], one["size_bytes"], one["sha256"]
        if type(path) is not str or type(size_bytes) is not int or type(sha256) is not str:
            raise TypeError(path)
        path.encode()
        files[path] = FileRecord(size_bytes, sha256)
    return Manifest(files)


def verify(folder: Path, told: str = "") -> Manifest:
    """Check that a version's folder holds what was published, to the last byte.

    Args:
        folder: the version's folder.
        told: how messages shall name it; its own name if empty.

    Returns:
        Its manifest.

    Raises:
        LoadFailed: it has no manifest, or the first file, in the order of the paths, that is
            missing, was added, or differs.
    """
    told = told or folder.name
    manifest = read(folder, told)
    if manifest is None:
        raise LoadFailed(f"{told} has no manifest; only versions that were published have one")
    with _told(told):
        found = set(_files(folder, told))
        for path in sorted(found | manifest.files.keys(), key=str.encode):
            wrong = _difference(folder / path, manifest.files.get(path), path in found)
            if wrong:
                raise LoadFailed(f"{told}: the file {shown(path)} {wrong}; publish it again")
    return manifest


def _difference(path: Path, published: FileRecord | None, is_there: bool) -> str:
    if not is_there:
        return "is missing"
    if published is None:
        return "was added"
    return "" if _record(path) == published else "was changed"


@contextmanager
def _told(told: str) -> Iterator[None]:
    """Turn what the file system says into an error that names the version."""
    try:
        yield
    except OSError as error:
        raise LoadFailed(f"{told} cannot be read: {error.strerror}") from error


def _files(folder: Path, told: str) -> Iterator[str]:
    """Yield the path of each file below a folder but the manifest's."""
    root = folder.resolve()
    if not root.is_dir():
        raise LoadFailed(f"{told} is no folder")
    for base, folders, files, here in os.fwalk(root, onerror=_raise):
        inner = Path(base).relative_to(root)
        if len(inner.parts) > _MAX_DEPTH:
            raise LoadFailed(f"{told} has folders more than {_MAX_DEPTH} deep")
        for name in (*folders, *files):
            path = (inner / name).as_posix()
            mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            if not path.isprintable():
                raise LoadFailed(f"{told}: the name {shown(path)} cannot be printed; rename it")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise LoadFailed(
                    f"{told}: {shown(path)} is a link or no regular file; versions hold regular "
                    "files and folders only"
                )
            if stat.S_ISREG(mode) and path != FILE:
                yield path


def _raise(error: OSError) -> None:
    raise error


def _record(path: Path) -> FileRecord:
    with _opened(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), sha256)


def _opened(path: Path) -> FileIO:
    """Open a file for reading; a link is an error, and a pipe does not wait for its writer."""
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | _NO_SURPRISE))
