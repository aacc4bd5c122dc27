"""Archives byte by byte, as no writer of tars would make them, and the way of one into a folder."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from pelton.repository.archive import Entry, survey, unpack

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes = b"model.onnx",
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    mode: int | bytes = 0o644,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    link: bytes = b"",
) -> bytes:
    """Make one header with a right checksum; numbers may be given as the field's own bytes."""
    block = bytearray(BLOCK)
    _put(block, 0, 100, name)
    _put(block, 100, 8, mode if isinstance(mode, bytes) else b"%07o\0" % mode)
    _put(block, 108, 8, b"0000000\0")
    _put(block, 116, 8, b"0000000\0")
    _put(block, 124, 12, size if isinstance(size, bytes) else b"%011o\0" % size)
    _put(block, 136, 12, b"00000000000\0")
    _put(block, 156, 1, kind)
    _put(block, 157, 100, link)
    _put(block, 257, 8, magic)
    _put(block, 345, 155, prefix)
    return signed(block)


def signed(block: bytes | bytearray) -> bytes:
    """Put the right checksum into a header."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _put(block: bytearray, at: int, room: int, value: bytes) -> None:
    assert len(value) <= room, value
    block[at : at + len(value)] = value


def entry(
    name: bytes = b"model.onnx", content: bytes = b"weights", kind: bytes = b"0", **more
) -> bytes:
    """Make one entry: header, content, padding."""
    return header(name, len(content), kind, **more) + content + bytes(-len(content) % BLOCK)


def pax(records: Iterable[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """Make an extended header."""
    return entry(b"PaxHeader", b"".join(_record(key, value) for key, value in records), kind)


def _record(key: bytes, value: bytes) -> bytes:
    bare = b" " + key + b"=" + value + b"\n"
    length = len(bare) + 1
    while len(b"%d" % length) + len(bare) != length:
        length += 1
    return b"%d" % length + bare


def tarred(*members: tuple[str, bytes | None], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """Make an archive with the standard library; None makes a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return made.getvalue()


def surveyed(archive: bytes) -> tuple[Entry, ...]:
    """Read the headers of an archive in memory."""
    return survey(io.BytesIO(archive), len(archive))


def unpacked(archive: bytes, folder: Path) -> dict[str, bytes]:
    """Unpack an archive into a new folder; return its files."""
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        unpack(io.BytesIO(archive), surveyed(archive), descriptor)
    finally:
        os.close(descriptor)
    return files(folder)


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    """Return everything below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
