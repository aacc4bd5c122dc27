"""Gives the memory of an unloaded model back to the system, without holding up requests.

A model is many blocks of memory, and the C library keeps freed ones for the next allocation:
after 256 MiB of small tensors were freed, all of it still counted as the process's own. So it is
told to let go of them, which holds up nobody but for some microseconds.

What only cycles of objects still hold is another matter: a full collection stops every thread
until it has looked at all objects that there are, which took 70 ms in a server of two small
models. So a runtime lets go of its weights by hand. Only where a model is code of its author's in
this process, which may hold its weights in any way, is there no other way than to collect.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import threading
from collections.abc import Callable
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's `malloc.h`."""

_MOST_MAPPED_BYTES = 32 * 1024 * 1024
"""glibc's own bound: a larger block lies in no heap, and goes back as soon as it is freed."""

_HEADER_BYTES, _NOT_MAIN = ctypes.sizeof(ctypes.c_size_t), 0x4
"""Before each block is its size, with a bit that tells whether it lies in the main heap."""

_LITTLE, _ENOUGH = 4096, 256 * 1024
"""What is freed at once has to be more than 64 KiB, else nothing is given back."""

_TURNS = 4


def give_memory_back() -> None:
    """Have the C library let go of what is free."""
    _trim()(0)
    if _shared_heap is not None:
        _shared_heap.cut_top()


def share_heaps() -> None:
    """Have all threads but the main one allocate from one heap, where models come and go.

    To be called before there are other threads. The C library gives each thread a heap of its own,
    and what is free at the end of one stays there until that thread needs it: 50 models that came
    and went, each loaded by another thread, left 12 % more memory than before. The main thread's
    own heap is left to it, so that the event loop waits for nobody.
    """
    global _shared_heap
    libc = ctypes.CDLL(None)
    if not hasattr(
        libc, "malloc_trim"
    ):  # not glibc; others may mean other things by the same names
        return
    libc.mallopt(_M_ARENA_MAX, 2)
    # What follows is what glibc comes to by itself once a large block was freed.
    libc.mallopt(_M_MMAP_THRESHOLD, _MOST_MAPPED_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MOST_MAPPED_BYTES)
    _shared_heap = _SharedHeap.found(libc)


class _SharedHeap:
    """The heap of all threads but the main one, with a block in it by which it can be shrunk.

    `malloc_trim` passes over what is free at the end of such a heap: only a block that is freed in
    it has that given back, and only where it is more than a bound that grows with the largest
    block so far. A model of 5 MB that came and went left up to 16 MB there.
    """

    def __init__(self, libc: Any, block: int) -> None:
        self._libc = libc
        self._block = block
        self._one_by_one = threading.Lock()

    @classmethod
    def found(cls, libc: Any) -> _SharedHeap | None:
        """Allocate a block in it; None where no thread was given any heap but the main one's."""
        libc.realloc.restype = ctypes.c_void_p
        libc.realloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        blocks: list[int] = []
        # The heaps are given out in turn.
        for _ in range(_TURNS):
            thread = threading.Thread(target=lambda: blocks.append(libc.realloc(None, _LITTLE)))
            thread.start()
            thread.join()
            if ctypes.c_size_t.from_address(blocks[-1] - _HEADER_BYTES).value & _NOT_MAIN:
                return cls(libc, blocks[-1])
        return None

    def cut_top(self) -> None:
        """Have the C library let go of what is free at its end."""
        with self._one_by_one:
            self._libc.mallopt(_M_TRIM_THRESHOLD, _LITTLE)
            # A block that shrinks is freed in part, where it lies, whichever thread asks.
            self._block = self._libc.realloc(self._block, _ENOUGH) or self._block
            self._block = self._libc.realloc(self._block, _LITTLE) or self._block
            self._libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MOST_MAPPED_BYTES)


_shared_heap: _SharedHeap | None = None


def free_cycles() -> None:
    """Free what only cycles of objects hold; stops all threads meanwhile.

    Objects that were frozen (`gc.freeze`) are looked at as well, since a model is frozen with all
    else that is there when the server starts, and are frozen again.
    """
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`; other C libraries have none and nothing is done."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _: None
    return trim
