"""Asks the kernel to run a thread soon after it wakes.

The thread that an answer waits for, the event loop or a worker's, works for microseconds and then
sleeps. Where all cores are busy, with models or with one that is being loaded, it would have to
wait for whoever runs to use up a turn of some milliseconds. Linux 6.12 and later prefer, among
those that have not had their share, whoever asked for the shortest slice; nobody's share grows or
shrinks by it, and no privilege is needed. Elsewhere nothing is changed.

Source: sched_setattr(2), and `kernel/sched/fair.c` of Linux 6.12, "EEVDF".
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORKER_NS = 100_000
"""For the thread that runs a model in a worker process; the shortest that the kernel takes."""

LOOP_NS = 500_000
"""For an event loop. Shorter than what anybody has who asks for nothing, and longer than a
worker's: an event loop with 0.1 ms as well took the core from a worker that was computing whenever
a request came, and a worker that runs batches of 32 rows for 64 clients did 7 % less."""

_USUAL = 0
"""What the kernel gives to those who ask for nothing."""

_CALLS = {"x86_64": 314, "aarch64": 274}
"""The number of the system call `sched_setattr` by machine; the C library has no name for it."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period: `struct sched_attr`."""

_NORMAL = 0
_RESET_ON_FORK = 1


@contextmanager
def promptly(slice_ns: int) -> Iterator[bool]:
    """Have the calling thread run soon whenever it wakes, not what it starts meanwhile.

    Args:
        slice_ns: what to ask for, nanoseconds; who has less goes first.

    Yields:
        Whether the system has taken it; without, all works as before.
    """
    taken = _ask_for(slice_ns)
    try:
        yield taken
    finally:
        if taken:
            _ask_for(_USUAL)


def _ask_for(slice_ns: int) -> bool:
    number = _CALLS.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        return False  # whoever started us has decided otherwise
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    asked = _ATTRIBUTES.pack(_ATTRIBUTES.size, _NORMAL, _RESET_ON_FORK, nice, 0, slice_ns, 0, 0)
    call = ctypes.CDLL(None).syscall
    this_thread, no_flags = ctypes.c_long(0), ctypes.c_long(0)
    return bool(call(ctypes.c_long(number), this_thread, asked, no_flags) == 0)
