"""Unpacks a `.tar` that a stranger sent into a folder, and never anything outside of it.

Twice over the archive: `survey` reads all headers and writes nothing, `unpack` then writes what
was surveyed. Regular files and folders come out, and nothing else: no links, owners, dates or
modes. Each file's bytes lie within the archive, and no two share them, so what is written is never
more than what was sent.

People pack a model's folder from within or from outside. So where everything lies in one folder,
the model is that folder's content: `model.onnx`, `digits/model.onnx` and `digits/1/model.onnx`
mean the same. What macOS puts in beside the files (`._NAME`, `.DS_Store`) is left out, and so is
the manifest of a version that was published before.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import BinaryIO

from pelton.errors import Code, InvalidRequest
from pelton.repository.durable import write_file
from pelton.repository.manifest import FILE as MANIFEST
from pelton.repository.names import checked_parts, folded, shown
from pelton.repository.tar_headers import BLOCK_BYTES, HeaderReader, has_header, malformed

MAX_ENTRIES = 10_000
"""How many files and folders a version may have."""

_HEADERS_PER_ENTRY = 3
"""The entry's own, a pax and a GNU one; no writer makes more."""

_CHUNK_BYTES = 1 << 20


class Kind(enum.Enum):
    """What the first bytes of an upload tell of it."""

    TAR = "a tar"
    COMPRESSED = "a compressed file"
    ZIP = "a zip"
    OTHER = "of no known kind"


_COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"\x1f\x9d",
    b"\x04\x22\x4d\x18",
)
"""How gzip, bzip2, xz, zstd, compress and lz4 begin."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

_CURES = {
    Kind.COMPRESSED: "the archive is compressed; send it as it was before, such as `tar -cf`",
    Kind.ZIP: (
        "the upload is a zip; send a tar, such as `tar -cf`, or, for a model that is itself "
        "a zip, say its file's name"
    ),
    Kind.OTHER: "the upload is no tar; send a tar, or a single model's file together with its name",
}


def kind_of(first: bytes) -> Kind:
    """Tell what an upload is.

    Args:
        first: its first 512 bytes, or all of it if it is shorter.
    """
    if has_header(first) or (len(first) == BLOCK_BYTES and not any(first)):
        return Kind.TAR
    if first.startswith(_COMPRESSED):
        return Kind.COMPRESSED
    return Kind.ZIP if first.startswith(_ZIP) else Kind.OTHER


def check_is_tar(first: bytes) -> None:
    """Refuse an upload that is no tar.

    Args:
        first: as for `kind_of`.

    Raises:
        InvalidRequest: it is not; its code is `UNSUPPORTED_MEDIA`, and the message has the cure.
    """
    kind = kind_of(first)
    if kind is not Kind.TAR:
        raise InvalidRequest(_CURES[kind], Code.UNSUPPORTED_MEDIA)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder that is to come out of an archive.

    Attributes:
        parts: its path below the model's folder.
        is_folder: whether it is a folder.
        offset: where its bytes begin in the archive.
        size_bytes: how many there are.
    """

    parts: tuple[str, ...]
    is_folder: bool
    offset: int
    size_bytes: int


def survey(file: BinaryIO, size_bytes: int, max_entries: int = MAX_ENTRIES) -> tuple[Entry, ...]:
    """Read all headers of an archive and check them; nothing is written.

    Args:
        file: the archive, open for reading.
        size_bytes: its size.
        max_entries: how many files and folders it may have.

    Returns:
        What `unpack` shall write; folders that are only part of a file's path are not listed.

    Raises:
        InvalidRequest: the archive is malformed or holds what it may not, with the entry's name
            (`MALFORMED_REQUEST`); or there is too much of it (`TOO_LARGE`).
    """
    seen = _Seen(max_entries)
    entries = []
    for header in HeaderReader(file, size_bytes, _HEADERS_PER_ENTRY * max_entries):
        path = header.path.removeprefix("./")
        if header.is_folder:
            path = path.removesuffix("/")
            if path in ("", "."):
                continue
        parts = checked_parts(path)
        seen.add(parts, header.is_folder)
        entries.append(Entry(parts, header.is_folder, header.offset, header.size_bytes))
    return _lifted([one for one in entries if not _is_of_macos(one.parts)])


class _Seen:
    """The paths of an archive so far, as file systems that tell no case apart would see them.

    Args:
        max_entries: how many files and folders there may be, folders counted that are only
            part of a path.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._folders: set[str] = set()
        self._named_folders: set[str] = set()
        self._by_key: dict[str, str] = {}

    def add(self, parts: Sequence[str], is_folder: bool) -> None:
        """Take in one more entry.

        Raises:
            InvalidRequest: it would be written over another, or is one too many.
        """
        for depth in range(1, len(parts) + is_folder):
            folder = "/".join(parts[:depth])
            if folder not in self._folders:
                self._take(folder)
                self._folders.add(folder)
        path = "/".join(parts)
        if not is_folder:
            self._take(path)
        elif path in self._named_folders:
            raise malformed(f"the entry {shown(path)} is there twice")
        else:
            self._named_folders.add(path)

    def _take(self, path: str) -> None:
        key = folded(path)
        if key in self._by_key:
            raise malformed(
                f"the entries {shown(self._by_key[key])} and {shown(path)} are one and the same, "
                "at least where file systems do not tell case or accents apart; rename one"
            )
        self._by_key[key] = path
        if len(self._by_key) > self._max_entries:
            raise InvalidRequest(
                f"the archive has more than {self._max_entries} files and folders; leave out "
                "what the model does not need",
                Code.TOO_LARGE,
            )


def _is_of_macos(parts: Sequence[str]) -> bool:
    return parts[-1] == ".DS_Store" or any(part.startswith("._") for part in parts)


def _lifted(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Take away the folders around everything."""
    if all(one.is_folder for one in entries):
        raise malformed("the archive holds no file; pack the model's folder into it")
    depth = len(_around_everything(entries))
    return tuple(
        Entry(one.parts[depth:], one.is_folder, one.offset, one.size_bytes)
        for one in entries
        if len(one.parts) > depth and folded(one.parts[depth]) != MANIFEST
    )


def _around_everything(entries: Sequence[Entry]) -> tuple[str, ...]:
    parents = [one.parts[:-1] for one in entries if not one.is_folder]
    around = _shared(min(parents), max(parents))
    for one in entries:
        if one.is_folder and one.parts != around[: len(one.parts)]:
            around = _shared(around, one.parts)
    return around


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders in which two folders both lie."""
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(part for part, _ in shared)


def unpack(file: BinaryIO, entries: Iterable[Entry], folder: int) -> None:
    """Write what `survey` found in an archive.

    Nothing that is there already is written over or followed. Files are flushed to the disk.

    Args:
        file: the same archive.
        entries: what to write.
        folder: descriptor of an empty folder.

    Raises:
        InvalidRequest: the archive is shorter than it was.
        OSError: the file system did not take it.
    """
    for entry in entries:
        depth = len(entry.parts) if entry.is_folder else len(entry.parts) - 1
        with _below(folder, entry.parts[:depth]) as parent:
            if not entry.is_folder:
                write_file(parent, entry.parts[-1], _bytes_of(file, entry))


@contextmanager
def _below(folder: int, parts: Sequence[str]) -> Iterator[int]:
    """Open a folder below another, made where it is not there; no link is followed."""
    found = os.dup(folder)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=found)
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=found)
            os.close(found)
            found = deeper
        yield found
    finally:
        os.close(found)


def _bytes_of(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.offset)
    left = entry.size_bytes
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise malformed("the archive became shorter while it was read")
        left -= len(chunk)
        yield chunk
