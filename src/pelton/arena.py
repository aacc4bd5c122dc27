"""Memory that several processes map: what one writes at an offset, the others read there.

It has no name in any file system, so nobody else can open it, and it is gone with the last
process that maps it, however that one ends. It is sparse: only what was touched takes memory, and
`forget` gives a part back.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pelton.tensors import Array

PAGE_BYTES = mmap.PAGESIZE
"""Bytes; what `forget` gives back are whole pages."""


class Arena:
    """A range of shared memory.

    Attributes:
        fd: hand it to a child process (`pass_fds`), which calls `attach`; -1 once closed.
        size_bytes: of the whole range, touched or not.
        data: uint8 `[size_bytes]`, the whole range; empty once closed.
    """

    def __init__(self, fd: int, size_bytes: int, writable: bool) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, size_bytes, mmap.MAP_SHARED, protection)
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._address = _address(self.data)

    @classmethod
    def create(cls, size_bytes: int) -> Arena:
        """Make a range that is filled with zeros.

        Args:
            size_bytes: at least 1; it costs address space, and memory only where it is touched.

        Raises:
            OSError: the system has no room for it.
        """
        fd = _anonymous_file()
        try:
            os.ftruncate(fd, size_bytes)
            _seal(fd)
            return cls(fd, size_bytes, writable=True)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, size_bytes: int, writable: bool = True) -> Arena:
        """Map the range of another process, whose descriptor was inherited; the fd is taken over.

        Args:
            fd: the descriptor.
            size_bytes: the size that the range was made with.
            writable: whether this process may write to it; otherwise an attempt ends the process.

        Raises:
            OSError: the descriptor is no arena, or it cannot be mapped.
            ValueError: the arena is smaller than that.
        """
        return cls(fd, size_bytes, writable)

    def offset_of(self, array: Array) -> int | None:
        """Return where an array lies in the range.

        Args:
            array: of any dtype and shape.

        Returns:
            The offset of its first byte; None if it is not C-contiguous or lies elsewhere.
        """
        if not array.flags.c_contiguous:
            return None
        offset = _address(array) - self._address
        return offset if 0 <= offset <= self.data.nbytes - array.nbytes else None

    def forget(self, start: int, stop: int) -> None:
        """Give the whole pages of a part back to the system; they read as zeros afterwards.

        Where the system cannot do that the part keeps its memory and its contents.

        Args:
            start: offset of the first byte.
            stop: offset behind the last one.
        """
        start += -start % PAGE_BYTES
        stop -= stop % PAGE_BYTES
        if hasattr(mmap, "MADV_REMOVE") and start < stop and self.data.nbytes:
            self._map.madvise(mmap.MADV_REMOVE, start, stop - start)

    def close(self) -> None:
        """Let go of the range; its memory is free when the last view of it is gone too."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        self.data = np.empty(0, np.uint8)
        # A view that is left keeps the mapping by itself.
        del self._map


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pelton", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fd, path = tempfile.mkstemp(prefix="pelton-")
    Path(path).unlink()
    return fd


def _seal(fd: int) -> None:
    """Fix the size, where that can be done: who maps a file that shrinks dies of its next read."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        with contextlib.suppress(OSError):  # an ordinary file takes no seal
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
