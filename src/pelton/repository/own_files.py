"""Reads files that a model's author names: they lie in the model's folder, and are small."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pelton.errors import LoadFailed

MAX_TEXT_BYTES = 1 << 20
"""Size above which a file of labels is not read."""

MAX_CONFIG_BYTES = 64 << 10
"""Size above which a `model.toml` or a `config.pbtxt` is not read."""


def inside(folder: Path, name: str, told: str) -> Path:
    """Return the path of a file that must lie inside a folder, links resolved.

    Args:
        folder: the folder.
        name: the file's name, relative to it.
        told: begins every message.

    Raises:
        LoadFailed: it does not, or is not there.
    """
    try:
        path = (folder / name).resolve(strict=True)
    # A loop of links is a RuntimeError before Python 3.13, a null byte in a name a ValueError.
    except (OSError, RuntimeError, ValueError):
        raise LoadFailed(f"{told}: there is no {name!r:.120} in the model's folder") from None
    if not path.is_relative_to(folder.resolve()):
        raise LoadFailed(f"{told}: {name!r:.120} leads out of the model's folder; copy it there")
    return folder / name


def refuse_endless(path: Path, told: str) -> None:
    """Refuse a pipe, a device or a socket: whoever opens it may wait for ever.

    Args:
        path: the file, the folder or what else there is, which may be nothing.
        told: how messages shall name it.

    Raises:
        LoadFailed: it is one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # whoever opens it says why it cannot be read
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise LoadFailed(f"{told:.300} is no plain file; put a file there, or a link to one")


def read_bytes(path: Path, limit_bytes: int, told: str) -> bytes:
    """Return what a file holds.

    Args:
        path: the file.
        limit_bytes: the most that it may hold.
        told: how messages shall name it.

    Raises:
        LoadFailed: it is larger, cannot be read, or is no plain file, which might have no end.
    """
    refuse_endless(path, told)
    try:
        with path.open("rb") as file:
            # As many bytes as are asked for are allocated, however few are there.
            data = file.read(min(os.fstat(file.fileno()).st_size, limit_bytes) + 1)
    except OSError as error:
        raise LoadFailed(f"{told} cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise LoadFailed(f"{told} is larger than {limit_bytes} bytes")
    return data


def read_text(path: Path, told: str, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a small file, whose lines end in a line feed.

    Args:
        path: the file.
        told: how messages shall name it.
        limit_bytes: the most that it may hold.

    Raises:
        LoadFailed: as `read_bytes`, or it is not UTF-8.
    """
    try:
        text = read_bytes(path, limit_bytes, told).decode("utf-8")
    except UnicodeDecodeError:
        raise LoadFailed(f"{told} is not UTF-8 text; save it as UTF-8") from None
    return text.replace("\r\n", "\n")


def read_lines(path: Path, told: str) -> list[str]:
    """Return the lines of a small file, such as one label each; the last may have no end.

    Raises:
        LoadFailed: as `read_text`.
    """
    return read_text(path, told).splitlines()
