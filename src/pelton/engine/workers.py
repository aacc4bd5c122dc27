"""Threads that run a model, and hand each result back to the event loop.

The standard library's executor does this too, with a lock, a condition and two futures for each
call: some 40 microseconds there and back, where this takes 10. Every request to a model that
does not run on the loop pays that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Job(NamedTuple):
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    work: Callable[..., Any]
    args: tuple[Any, ...]


class Workers:
    """Runs calls in the order in which they come, as many at once as there are threads.

    A thread is started when a call would have to wait, until there are as many as allowed.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._most = threads
        self._name = name
        self._lock = threading.Lock()
        self._unfinished = 0  # calls that wait or run, also those whose caller has left
        self._threads: list[threading.Thread] = []

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work` in a thread.

        A caller that is cancelled while its call waits for a thread takes the call back; one
        that is already running goes on, and nobody hears of its result.

        Raises:
            BaseException: whatever the call raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._unfinished += 1
            all_busy = self._unfinished > len(self._threads)
        self._jobs.put(_Job(loop, done, work, args))
        del args
        if all_busy and len(self._threads) < self._most:
            self._start_thread()
        try:
            return await done
        finally:
            del done  # an error's traceback holds this frame, and `done` holds the error

    def close(self) -> None:
        """Let the waiting calls run, then end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        # A daemon: a model that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._perform(*job)
            # The memory of a picture is free for the next request only when nobody holds it.
            del job

    def _perform(
        self,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[Any],
        work: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        if done.cancelled():
            self._finished()
            return
        try:
            outcome = work(*args)
        except BaseException as error:  # noqa: BLE001 -- it belongs to the caller, whatever it is
            self._finished()
            _announce(loop, _fail, done, error)
            del done, args  # the error's traceback holds this frame, and `done` holds the error
        else:
            self._finished()
            _announce(loop, _succeed, done, outcome)

    def _finished(self) -> None:
        """Note that a thread is free; before the caller hears of it, who may call again at once."""
        with self._lock:
            self._unfinished -= 1


def _announce(
    loop: asyncio.AbstractEventLoop,
    settle: Callable[[asyncio.Future[Any], Any], None],
    done: asyncio.Future[Any],
    outcome: Any,
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
        loop.call_soon_threadsafe(settle, done, outcome)


def _succeed(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.done():
        # A future takes no StopIteration: it would end the coroutine that waits, as if answered.
        stopped = isinstance(error, StopIteration)
        done.set_exception(RuntimeError("the call raised StopIteration") if stopped else error)
