"""One timer for everything that a model's way has to look at when some time has come."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from pelton.clock import Clock


class Alarm:
    """Rings once for every setting, at the earliest of the times that were asked for.

    A timer for each request would cost as much as the rest of its way; nearly all deadlines are
    met long before they come, so one timer for the earliest of them does.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._when_s = math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def by(self, when_s: float) -> None:
        """Ring at this time on the clock, unless it rings before."""
        if when_s >= self._when_s:
            return
        self.stop()
        self._when_s = when_s
        delay_s = max(0.0, when_s - self._clock())
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(delay_s, self._rung)

    def stop(self) -> None:
        """Do not ring; may be called in any thread."""
        self._when_s = math.inf
        timer, self._timer = self._timer, None
        if timer is None or self._loop is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # this is not the thread of the event loop, or it has ended
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(timer.cancel)
        else:
            timer.cancel()

    def _rung(self) -> None:
        self._when_s = math.inf
        self._timer = None
        self._ring()
