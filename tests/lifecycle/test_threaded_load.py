"""A load in a thread: handed over or discarded, exactly one of them, and never waited for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pelton.errors import LoadFailed
from pelton.lifecycle.threaded_load import in_thread, within

PATIENCE_S = 30.0


class Thread:
    """A loader that ends when it is told to, and remembers what was discarded."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.discarded = threading.Event()

    def load(self) -> str:
        self.begun.set()
        assert self.may_end.wait(PATIENCE_S)
        return "model"

    def discard(self, loaded: str) -> None:
        assert loaded == "model"
        assert not self.discarded.is_set(), "only once"
        self.discarded.set()


async def test_what_was_loaded_is_handed_over() -> None:
    thread = Thread()
    thread.may_end.set()
    assert await in_thread(thread.load, thread.discard, "loading") == "model"
    assert not thread.discarded.is_set()


async def test_what_went_wrong_is_told() -> None:
    def load() -> str:
        raise LoadFailed("no such file")

    with pytest.raises(LoadFailed, match="no such file"):
        await in_thread(load, Thread().discard, "loading")


async def test_who_is_cancelled_leaves_at_once_and_the_late_model_is_discarded() -> None:
    thread = Thread()
    task = asyncio.create_task(in_thread(thread.load, thread.discard, "loading"))
    await asyncio.to_thread(thread.begun.wait, PATIENCE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not thread.discarded.is_set()
    thread.may_end.set()
    assert await asyncio.to_thread(thread.discarded.wait, PATIENCE_S)


async def test_a_model_that_comes_in_the_turn_of_the_cancellation_is_discarded() -> None:
    thread = Thread()
    thread.may_end.set()
    task = asyncio.create_task(in_thread(thread.load, thread.discard, "loading"))
    await asyncio.sleep(0)
    assert thread.begun.wait(PATIENCE_S)  # in this turn of the loop, which must learn of nothing
    for other in threading.enumerate():
        if other.name == "loading":
            other.join(PATIENCE_S)
    task.cancel()  # it has been loaded; the task does not know yet
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(thread.discarded.wait, PATIENCE_S)


async def test_an_error_that_nobody_waits_for_is_dropped() -> None:
    thread = Thread()

    def load() -> str:
        thread.load()
        raise LoadFailed("late")

    task = asyncio.create_task(in_thread(load, thread.discard, "loading-late"))
    await asyncio.to_thread(thread.begun.wait, PATIENCE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    thread.may_end.set()
    for other in threading.enumerate():
        if other.name == "loading-late":
            other.join(PATIENCE_S)
    assert not thread.discarded.is_set()


async def test_the_thread_does_not_hold_up_the_end_of_the_server() -> None:
    thread = Thread()
    task = asyncio.create_task(in_thread(thread.load, thread.discard, "loading-daemon"))
    await asyncio.to_thread(thread.begun.wait, PATIENCE_S)
    (running,) = [one for one in threading.enumerate() if one.name == "loading-daemon"]
    assert running.daemon
    thread.may_end.set()
    assert await task == "model"


async def test_a_load_that_hangs_can_be_given_a_limit() -> None:
    thread = Thread()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_thread(thread.load, thread.discard, "loading")
    thread.may_end.set()
    assert await asyncio.to_thread(thread.discarded.wait, PATIENCE_S)


# -- without an event loop -----------------------------------------------------------------------


def test_what_was_loaded_in_time_is_handed_over() -> None:
    thread = Thread()
    thread.may_end.set()
    assert within(thread.load, thread.discard, "loading", PATIENCE_S) == "model"
    assert not thread.discarded.is_set()


def test_what_went_wrong_in_time_is_told() -> None:
    def load() -> str:
        raise LoadFailed("no such file")

    with pytest.raises(LoadFailed, match="no such file"):
        within(load, Thread().discard, "loading", PATIENCE_S)


def test_what_comes_too_late_is_discarded() -> None:
    thread = Thread()
    assert within(thread.load, thread.discard, "loading", 0.01) is None
    assert not thread.discarded.is_set()
    thread.may_end.set()
    assert thread.discarded.wait(PATIENCE_S)
