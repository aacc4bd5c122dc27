"""Files and folders that are still there after the power was cut, and errors of the disk in words.

A file is flushed through the descriptor with which it was written, since only that one is sure to
be told if the disk did not take it. A flush that failed is never tried again: the kernel may have
thrown the bytes away and would then say that all is well.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pelton.errors import Code, PeltonError, Unavailable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors_told(doing: str) -> Iterator[None]:
    """Turn an error of the file system into one for the person who sent the request.

    Args:
        doing: what is being done, such as `receiving the upload`.

    Raises:
        Unavailable: the disk is full; its code is `DISK_FULL`.
        PeltonError: anything else went wrong.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise Unavailable(
                f"{doing} failed since the server's disk is full; make room, and try again",
                code=Code.DISK_FULL,
            ) from error
        raise PeltonError(f"{doing} failed on the server's disk: {error.strerror}") from error


def flush(descriptor: int) -> None:
    """Wait until a file or folder is on the disk itself.

    macOS needs more than `fsync` for that (its manual page, fsync(2)).

    Raises:
        OSError: it is not; do not try again.
    """
    os.fsync(descriptor)
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: they are not; do not try again.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    """Write all of a chunk, however little of it the system takes at once."""
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def write_file(folder: int, name: str, chunks: Iterable[bytes]) -> None:
    """Write a new file, and wait until it is on the disk.

    Args:
        folder: descriptor of the folder.
        name: of the file; nothing of that name may be there, not even a link.
        chunks: what it shall hold.

    Raises:
        OSError: it could not be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
        flush(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only folders too; links are not followed.

    Raises:
        OSError: something could not be removed.
    """
    for _, _, _, here in os.fwalk(folder):
        os.fchmod(here, 0o700)
    shutil.rmtree(folder)
