"""Packs a model into a `.tar`, as `pelton push` sends it.

The same files give the same bytes, whoever packs them and when: entries come in the order of
their names, without owners, dates or modes. How many bytes it will be is known beforehand, and
what is packed is never held in memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pelton.errors import InvalidRequest
from pelton.repository.names import checked_parts, shown
from pelton.repository.tar_headers import BLOCK_BYTES

Progress = Callable[[int], None]
"""Told after each chunk how many bytes have been given out."""

_CHUNK_BYTES = 1 << 20
_END = bytes(2 * BLOCK_BYTES)
_PASSED_OVER = "__pycache__"


@dataclass(frozen=True, slots=True)
class _Member:
    """One file that is to be packed: where it is, its size, and the header before its bytes."""

    path: Path
    size_bytes: int
    header: bytes


@dataclass(frozen=True, slots=True)
class Package:
    """A model that is ready to be packed.

    Attributes:
        members: its files.
        size_bytes: how large the archive will be.
    """

    members: tuple[_Member, ...]
    size_bytes: int

    def chunks(self, progress: Progress | None = None) -> Iterator[bytes]:
        """Yield the archive.

        Args:
            progress: told of each chunk once the next one is asked for.

        Raises:
            InvalidRequest: a file is not as long as it was, or cannot be read.
        """
        sent_bytes = 0
        for chunk in self._chunks():
            yield chunk
            sent_bytes += len(chunk)
            if progress is not None:
                progress(sent_bytes)

    def digest(self) -> str:
        """Read all of it once; return `sha256:HEX` of the archive."""
        sha256 = hashlib.sha256()
        for chunk in self._chunks():
            sha256.update(chunk)
        return "sha256:" + sha256.hexdigest()

    def _chunks(self) -> Iterator[bytes]:
        for member in self.members:
            yield member.header
            yield from _bytes_of(member)
            if padding := -member.size_bytes % BLOCK_BYTES:
                yield bytes(padding)
        yield _END


def pack(path: Path) -> Package:
    """Look at a model and make it ready to be packed.

    Args:
        path: the folder of one version of a model, or a model's single file. What is hidden in
            the folder, and `__pycache__`, is passed over.

    Raises:
        InvalidRequest: there is nothing to pack, or it holds a link or a name that no server
            would take.
    """
    try:
        files = _files(path) if path.is_dir() else {path.name: path.resolve()}
        members = tuple(_member(name, files[name]) for name in sorted(files, key=os.fsencode))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if not members:
        raise InvalidRequest(f"{path} holds no files; name the folder of one version of a model")
    padded = (one.size_bytes + -one.size_bytes % BLOCK_BYTES for one in members)
    headers = sum(len(one.header) for one in members)
    return Package(members, headers + sum(padded) + len(_END))


def _files(root: Path) -> dict[str, Path]:
    _refuse_versions(root)
    found, folders = {}, [root]
    while folders:
        for one in folders.pop().iterdir():
            if one.name.startswith(".") or one.name == _PASSED_OVER:
                continue
            if one.is_dir() and not one.is_symlink():
                folders.append(one)
            else:
                found[one.relative_to(root).as_posix()] = one
    return found


def _refuse_versions(root: Path) -> None:
    """Refuse a folder of versions: only one of them can become the new one."""
    versions = [one.name for one in root.iterdir() if one.is_dir() and one.name.isdecimal()]
    if versions:
        version = max(versions, key=int)
        raise InvalidRequest(
            f"{root} holds folders of versions; name the one to send, such as {root / version}"
        )


def _member(name: str, path: Path) -> _Member:
    checked_parts(name)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise InvalidRequest(
            f"{shown(name)} is a link; put the file itself in its place (`cp --dereference`)"
        )
    if not stat.S_ISREG(found.st_mode):
        raise InvalidRequest(f"{shown(name)} is no regular file; leave it out")
    info = tarfile.TarInfo(name)
    info.size = found.st_size
    return _Member(path, found.st_size, info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))


def _bytes_of(member: _Member) -> Iterator[bytes]:
    left = member.size_bytes
    try:
        with member.path.open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
            changed = left or file.read(1)
    except OSError as error:
        raise InvalidRequest(f"{member.path} cannot be read: {error.strerror}") from error
    if changed:
        raise InvalidRequest(f"{member.path} changed while it was packed; try again")
