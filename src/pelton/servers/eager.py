"""Starts a coroutine at once, and makes a task of it only when it has to wait.

Most requests for small models never wait. A task for each would cost more than the model:
a trip through the loop's ready queue before, and another after. Python 3.12 has the idea as
eager tasks; this is the same for 3.11.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine to its first wait.

    Args:
        coroutine: not yet started; it must handle its own errors, since one that it raises
            before its first wait comes straight out of this call.

    Returns:
        None when it has finished already, else the task that carries it on.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_resume(coroutine, awaited))


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Carry on a coroutine that waits for `awaited`, as its task would have."""
    step: Callable[[Any], Any]
    value: Any
    while True:
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 -- cancellation belongs to the coroutine
            step, value = coroutine.throw, error
        else:
            step, value = coroutine.send, sent
        try:
            awaited = step(value)
        except StopIteration:
            return
