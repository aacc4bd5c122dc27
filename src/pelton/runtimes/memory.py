"""Gives the memory of an unloaded model back to the system.

A model is many blocks of memory, and the C library keeps freed ones for the next allocation:
after 256 MiB of small tensors were freed, all of it still counted as the process's own.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


def give_memory_back() -> None:
    """Free what only cycles of objects still hold, and have the C library let go of what is free.

    Objects that were frozen (`gc.freeze`) are looked at as well, since a model is frozen with all
    else that is there when the server starts, and are frozen again.
    """
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`; other C libraries have none and nothing is done."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _: None
    return trim
