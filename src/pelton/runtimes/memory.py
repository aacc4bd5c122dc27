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
from collections.abc import Callable

_M_ARENA_MAX = -8
"""From glibc's `malloc.h`."""


def give_memory_back() -> None:
    """Have the C library let go of what is free."""
    _trim()(0)


def share_heaps() -> None:
    """Have all threads but the main one allocate from one heap, where models come and go.

    To be called before there are other threads. The C library gives each thread a heap of its own,
    and what is free at the end of one stays there until that thread needs it: 50 models that came
    and went, each loaded by another thread, left 12 % more memory than before. The main thread's
    own heap is left to it, so that the event loop waits for nobody.
    """
    _mallopt()(_M_ARENA_MAX, 2)


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
def _mallopt() -> Callable[[int, int], object]:
    """Return glibc's `mallopt`; with other C libraries nothing is done."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):  # some have a `mallopt` that means other things
        return lambda _what, _value: None
    mallopt: Callable[[int, int], object] = libc.mallopt
    return mallopt


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`; other C libraries have none and nothing is done."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _: None
    return trim
