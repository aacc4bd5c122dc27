"""How much memory a server and its workers hold while something else goes on."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

STEP_S = 0.5


class Watch:
    """Looks again and again, in a thread of its own.

    Attributes:
        found: resident bytes of the process itself and of all that descend from it, every
            `STEP_S`. Memory that processes share counts for each of them.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.found: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        next_s = time.monotonic()
        while True:
            self.found.append(resident_bytes(self._pid))
            next_s += STEP_S
            if self._over.wait(max(0.0, next_s - time.monotonic())):
                return


def resident_bytes(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process, and those of its descendants together.

    No program is started for it, such as `ps`: that takes milliseconds of a core, which those who
    are being measured at that moment would notice.
    """
    process, below = psutil.Process(pid), 0
    for descendant in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            below += descendant.memory_info().rss
    return process.memory_info().rss, below
