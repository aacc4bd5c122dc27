"""POSIX shared memory objects of this process: made, found by the server, and gone again.

An object has a name only until the server has mapped it; then the name is taken away, and the
memory lives for as long as somebody has it mapped. So a program that is killed leaves nothing
behind but, if it is killed in that very moment, a name. That is what `remove_stale` is for: names
tell whose they are, `pelton-PID-RANDOM`.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import re
import time
from pathlib import Path
from typing import Any

_FOLDER = Path("/dev") / "shm"
"""Where Linux shows the objects."""

_NAME = re.compile(r"/?pelton-([0-9]{1,10})-[0-9a-f]{16}")
_STALE_AFTER_S = 60.0
"""A process of another container cannot be told from a dead one, but none takes so long."""

# What `multiprocessing.shared_memory` is made of, without the tracker process that would unlink
# the objects a second time.
_posix: Any = importlib.import_module("_posixshmem")


class NamedMemory:
    """One shared memory object, mapped.

    Attributes:
        name: under which others can open it, until `unlink`.
        map: its bytes, zero at first. They stay for as long as anything refers to them.
    """

    def __init__(self, size_bytes: int) -> None:
        """Create an object that only processes of this user can open.

        Args:
            size_bytes: at least 1.

        Raises:
            OSError: there is no memory left for it.
        """
        self.name = f"pelton-{os.getpid()}-{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        file = _posix.shm_open(f"/{self.name}", flags, mode=0o600)
        try:
            os.ftruncate(file, size_bytes)
            if hasattr(os, "posix_fallocate"):
                # Memory that is not there would kill whoever touches it, with SIGBUS.
                os.posix_fallocate(file, 0, size_bytes)
            self.map = mmap.mmap(file, size_bytes)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(file)

    def unlink(self) -> None:
        """Take the name away, unless somebody has."""
        _unlink(self.name)


def is_left_behind(name: str) -> bool:
    """Say whether an object was made by a client whose process is gone.

    Args:
        name: of any object, with or without the slash before it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def remove_stale() -> None:
    """Unlink what clients of this user left behind that were killed (Linux shows the names)."""
    for path in _FOLDER.glob("pelton-*"):
        with contextlib.suppress(OSError):
            told = path.stat()
            is_old = time.time() - told.st_mtime > _STALE_AFTER_S
            if is_old and told.st_uid == os.getuid() and is_left_behind(path.name):
                _unlink(path.name)


def _unlink(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _posix.shm_unlink(f"/{name}")
