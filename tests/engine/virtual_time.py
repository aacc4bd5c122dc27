"""An event loop whose time passes only when nothing else is left to do.

So a test may wait for a deadline of a minute, and it comes at once, and always at the same point
among all that happens.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Lets the loop's time jump to its next timer instead of waiting for it."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("the test waits for something that will never come")
        ready = super().select(0)
        if not ready:
            self.passed_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return 1000.0 + self._virtual.passed_s

    def be_blocked(self, seconds: float) -> None:
        """Let time pass in which nothing can happen, not even a timer."""
        self._virtual.passed_s += seconds


def block(seconds: float) -> None:
    """Let time pass as if some code held up the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.be_blocked(seconds)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on such a loop; `asyncio.get_running_loop().time` is its clock."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Let everything happen that can happen before any time passes."""
    for _ in range(10):
        await asyncio.sleep(0)
