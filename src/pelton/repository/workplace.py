"""The hidden folder in a repository where versions are made before anybody can see them.

    <root>/.pelton/
    |-- lock                          held for a moment by whoever moves folders
    |-- work/<id>/                    one for each server that is running
    |   |-- lock                      held for as long as it runs
    |   |-- incoming/<id>.part        uploads while they come in
    |   `-- staging/<id>/<model>/<version>/...
    `-- quarantine/<id>/<model>/<version>/...

It lies within the repository since a folder can be renamed in one step only on one file system.
A server that was killed leaves its folder of work; the lock of a killed process is free, so that
the next server to start can tell it from the folders of those that run, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pelton.errors import SettingsError
from pelton.repository.durable import remove_tree

HIDDEN = ".pelton"
_LOCK = "lock"


def new_id() -> str:
    """Return a name that no other folder has."""
    return uuid.uuid4().hex


class Workplace:
    """One running server's own folders; `sweep` tells what becomes of them if it is killed.

    Args:
        root: the repository's folder.

    Raises:
        SettingsError: something that is no folder stands in the way.
        OSError: the folders cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantine = root / HIDDEN / "quarantine"
        with held(root):
            self._folder = root / HIDDEN / "work" / new_id()
            self.incoming = self._folder / "incoming"
            self.staging = self._folder / "staging"
            for one in (self._folder, self.incoming, self.staging):
                one.mkdir(mode=0o700)
            self._lock = _locked(self._folder / _LOCK, wait=False)

    def close(self) -> None:
        """Remove the folders, and whatever is still in them; may be called again."""
        if self._lock is None:
            return
        with held(self.root):
            remove_tree(self._folder)
            os.close(self._lock)
            self._lock = None


def sweep(root: Path) -> int:
    """Remove what servers left that were killed.

    Args:
        root: the repository's folder.

    Returns:
        How many folders of work there were.

    Raises:
        SettingsError: something that is no folder stands where they would be.
        OSError: they cannot be removed.
    """
    if not os.path.lexists(root / HIDDEN):
        return 0
    swept = 0
    with held(root):
        for folder in (root / HIDDEN / "work").iterdir():
            if folder.is_symlink() or not folder.is_dir():
                continue
            lock = _locked(folder / _LOCK, wait=False)
            if lock is not None:
                try:
                    remove_tree(folder)
                finally:
                    os.close(lock)
                swept += 1
    return swept


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keep other threads and servers from moving what is in a repository at the same time.

    Args:
        root: the repository's folder.

    Raises:
        SettingsError: something that is no folder stands where the folders of work would be.
        OSError: the lock cannot be had.
    """
    for one in (root / HIDDEN, root / HIDDEN / "work", root / HIDDEN / "quarantine"):
        if not os.path.lexists(one):
            one.mkdir(mode=0o700, exist_ok=True)
        if one.is_symlink() or not one.is_dir():
            raise SettingsError(
                f"{one} is not a folder of its own; the server keeps its work there, so move it "
                "away"
            )
    lock = _locked(root / HIDDEN / _LOCK, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _locked(path: Path, *, wait: bool) -> int | None:
    """Open a file and lock it; None where another process has it locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
