"""Calls what blocks in a thread, and never runs ahead of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Has something called off the event loop."""

    def __call__(self, call: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Call it; raises what it raises."""
        ...


async def unhurried(call: Callable[..., T], /, *args: Any) -> T:
    """Call something in a thread, and wait until it is over, even where the caller is cancelled.

    A thread cannot be made to stop, and what it is at, such as a file, must not be taken from
    under it. So a caller that is cancelled hears of it when the call has come back.

    Args:
        call: what blocks; comes to an end by itself.
        args: its arguments.

    Raises:
        BaseException: what the call raises.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call, *args))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # looked at, since nobody else will
        raise cancelled
    return running.result()
