"""While versions change, threads give way to the event loop sooner."""

from __future__ import annotations

import sys
from types import TracebackType

TURN_S = 0.0005
"""For so long a thread may run Python while the event loop has something to do. The interpreter's
own 5 ms are what a request would wait each time that a thread checks or records a version."""


class QuickTurns:
    """A context within which turns are quick; the last who leaves it has them as they were."""

    def __init__(self) -> None:
        self._inside = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        if not self._inside:
            self._usual_s = sys.getswitchinterval()
            sys.setswitchinterval(TURN_S)
        self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside -= 1
        if not self._inside:
            sys.setswitchinterval(self._usual_s)
