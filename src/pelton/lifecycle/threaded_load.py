"""Loads in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(load: Callable[[], T], discard: Callable[[T], None], name: str) -> T:
    """Call a blocking loader in a thread of its own.

    No thread can be made to stop. So whoever is cancelled here leaves at once, and what the thread
    brings later is discarded. A loader that hangs for ever keeps its thread, and nothing else: the
    thread is none of a pool, so others load meanwhile, and a daemon, so the server can end.

    Args:
        load: the loader.
        discard: gives back what came too late; called in the thread.
        name: name of the thread, for those who look at stacks.

    Returns:
        What was loaded.

    Raises:
        BaseException: what the loader raised.
    """
    handed: concurrent.futures.Future[T] = concurrent.futures.Future()
    arrived = asyncio.wrap_future(handed)
    thread = threading.Thread(target=_load, args=(load, discard, handed), name=name, daemon=True)
    # By another thread: who starts one waits until it runs, and then for the interpreter's lock.
    asyncio.get_running_loop().run_in_executor(None, _start, thread, handed)
    try:
        return await arrived
    except asyncio.CancelledError:
        if not handed.cancel() and handed.exception() is None:  # it came at the last moment
            late = threading.Thread(target=discard, args=(handed.result(),), name=name)
            late.start()
        raise


def within(
    load: Callable[[], T], discard: Callable[[T], None], name: str, timeout_s: float
) -> T | None:
    """Call a blocking loader as `in_thread` does, and wait for it without an event loop.

    Args:
        load: the loader; never returns None.
        discard: gives back what came too late; called in the loader's thread.
        name: name of that thread.
        timeout_s: how long to wait.

    Returns:
        What was loaded; None when the time is over.

    Raises:
        BaseException: what the loader raised.
    """
    handed: concurrent.futures.Future[T] = concurrent.futures.Future()
    thread = threading.Thread(target=_load, args=(load, discard, handed), name=name, daemon=True)
    _start(thread, handed)
    concurrent.futures.wait([handed], timeout_s)
    return None if handed.cancel() else handed.result()


def _start(thread: threading.Thread, handed: concurrent.futures.Future[T]) -> None:
    try:
        thread.start()
    except RuntimeError as error:  # the system gives no more threads
        if handed.set_running_or_notify_cancel():
            handed.set_exception(error)


def _load(
    load: Callable[[], T], discard: Callable[[T], None], handed: concurrent.futures.Future[T]
) -> None:
    try:
        loaded = load()
    except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever it is
        if handed.set_running_or_notify_cancel():
            handed.set_exception(error)
        return
    # Only from here on it is too late to cancel; so either the caller has it, or it is discarded.
    if handed.set_running_or_notify_cancel():
        handed.set_result(loaded)
    else:
        discard(loaded)
