"""Starts a coroutine at once, and makes a task of it only when it has to wait.

Most requests for small models never wait. A task for each would cost more than the model:
a trip through the loop's ready queue before, and another after. Python 3.12 has the idea as
eager tasks; this works on 3.11 too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
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
    return asyncio.get_running_loop().create_task(_Rest(coroutine, awaited))


class _Rest(Coroutine[Any, Any, None]):
    """What is left of a coroutine that has run to its first wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self._begun = False

    def send(self, value: Any) -> Any:
        """Tell the task what is waited for, at its first step; then go on."""
        if not self._begun:
            self._begun = True
            return self._awaited
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Pass an error on; a task that is cancelled before its first step cancels the wait."""
        if not self._begun:
            self._begun = True
            if isinstance(self._awaited, asyncio.Future) and self._awaited.cancel():
                return self._awaited
        try:
            return self._coroutine.throw(*error)
        finally:
            # An error knows this frame by its traceback; together they would keep everything
            # that the coroutine held, such as a body, until the collector comes by.
            del error

    def close(self) -> None:
        """Give the coroutine up."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("only a task carries this on")
