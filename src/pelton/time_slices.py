"""Who runs when: slices of a core, which the kernel gives, and turns of the interpreter's lock.

The thread that an answer waits for, the event loop or a worker's, works for microseconds and then
sleeps. Where all cores are busy, with models or with one that is being loaded, it would have to
wait for whoever runs to use up a turn of some milliseconds. Linux 6.12 and later prefer, among
those that have not had their share, whoever asked for the shortest slice; nobody's share grows or
shrinks by it, and no privilege is needed. Elsewhere nothing is changed.

Within the process only one thread at a time runs Python. One that wants to and may not, such as the
event loop while a model runs Python in a thread, or a model's thread that was given the next batch
while the event loop writes answers, has it after a turn.

Source: sched_setattr(2), and `kernel/sched/fair.c` of Linux 6.12, "EEVDF";
`sys.setswitchinterval`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WORKER_NS = 100_000
"""For the thread that runs a model in a worker process; the shortest that the kernel takes."""

LOOP_NS = 500_000
"""For an event loop. Shorter than what anybody has who asks for nothing, and longer than a
worker's: an event loop with 0.1 ms as well took the core from a worker that was computing whenever
a request came, and a worker that runs batches of 32 rows for 64 clients did 7 % less."""

TURN_S = 0.0001
"""The interpreter's own 5 ms are longer than most answers take. With 0.1 ms four instances of
ResNet-18 begin their next run sooner, and do 4 % more; and beside a model that computes in Python
for milliseconds a quick one is answered in 1.1 ms where it took 3.5. The one that computes did 17 %
less then, beside a quick one that did three times as much."""

_USUAL = 0
"""What the kernel gives to those who ask for nothing."""

_CALLS = {"x86_64": 314, "aarch64": 274}
"""The number of the system call `sched_setattr` by machine; the C library has no name for it."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period: `struct sched_attr`."""

_NORMAL = 0
_RESET_ON_FORK = 1


class _ShortTurns:
    """A context within which turns of the interpreter's lock are short, for the whole process.

    The last who leaves it has them as they were.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(TURN_S)
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.setswitchinterval(self._usual_s)


short_turns = _ShortTurns()
"""To be entered by whoever runs an event loop that answers requests."""


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
