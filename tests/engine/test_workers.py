"""Threads that run calls in order and hand their results back to the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
import uvloop

from pelton.engine.workers import Workers

WAIT_S = 10.0


@pytest.fixture
def workers() -> Iterator[Callable[[int], Workers]]:
    """Make workers, which are closed at the end."""
    with contextlib.ExitStack() as endings:

        def make(threads: int) -> Workers:
            made = Workers(threads, "test")
            endings.callback(made.close)
            return made

        yield make


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_call_runs_in_a_thread_of_that_name_and_its_result_comes_back(workers, new_loop) -> None:
    def work(left: int, right: int) -> tuple[str, int]:
        return threading.current_thread().name, left + right

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(workers(1).run(work, 1, 2)) == ("test-0", 3)


@pytest.mark.parametrize(
    "error", [ValueError("a"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()]
)
async def test_whatever_the_call_raises_comes_back_and_the_thread_lives(workers, error) -> None:
    def work() -> None:
        raise error

    pool = workers(1)
    for _ in range(2):
        with pytest.raises(type(error)):
            await pool.run(work)
    assert await pool.run(sum, [1, 2]) == 3


async def test_a_stop_iteration_comes_back_as_what_a_coroutine_can_raise(workers) -> None:
    def work() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="the call raised StopIteration"):
        await workers(1).run(work)


async def test_one_thread_runs_calls_in_the_order_in_which_they_came(workers) -> None:
    pool, may_go, ran = workers(1), threading.Event(), []

    def work(index: int) -> int:
        assert may_go.wait(WAIT_S)
        ran.append(index)
        return index

    calls = [asyncio.ensure_future(pool.run(work, index)) for index in range(100)]
    await asyncio.sleep(0)
    may_go.set()
    assert await asyncio.gather(*calls) == list(range(100))
    assert ran == list(range(100))


async def test_as_many_run_at_once_as_there_are_threads(workers) -> None:
    pool, together = workers(3), threading.Barrier(3, timeout=WAIT_S)
    await asyncio.gather(*[pool.run(together.wait) for _ in range(6)])


async def test_a_call_whose_caller_left_while_it_waited_is_taken_back(workers) -> None:
    pool, may_go, ran = workers(1), threading.Event(), []
    first = asyncio.ensure_future(pool.run(may_go.wait, WAIT_S))
    second = asyncio.ensure_future(pool.run(ran.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    may_go.set()
    assert await first
    await pool.run(ran.append, "third")
    assert ran == ["third"]


async def test_a_call_whose_caller_left_while_it_ran_goes_on_unheard(workers) -> None:
    pool, entered, may_go, ran = workers(1), threading.Event(), threading.Event(), []

    def work() -> None:
        entered.set()
        assert may_go.wait(WAIT_S)
        ran.append("to its end")

    call = asyncio.ensure_future(pool.run(work))
    await asyncio.to_thread(entered.wait, WAIT_S)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go.set()
    await pool.run(sum, [])
    assert ran == ["to its end"]


class Body:
    """Stands for a big array."""


def gone_after(event: threading.Event) -> Body:
    """Return an object; `event` is set when nothing refers to it any more."""
    body = Body()
    weakref.finalize(body, event.set)
    return body


@pytest.mark.parametrize("fails", [False, True])
async def test_an_idle_thread_holds_neither_arguments_nor_results(workers, fails: bool) -> None:
    """The buffer that a request's body lies in is free again once its answer is out."""
    taken, given = threading.Event(), threading.Event()

    def work(body: Body) -> Body:
        if fails:
            raise ValueError
        return gone_after(given)

    pool = workers(1)
    with contextlib.suppress(ValueError):
        await pool.run(work, gone_after(taken))
    assert await asyncio.to_thread(taken.wait, WAIT_S)
    assert fails or await asyncio.to_thread(given.wait, WAIT_S)


async def test_an_idle_thread_holds_no_call_that_was_taken_back(workers) -> None:
    pool, may_go, taken = workers(1), threading.Event(), threading.Event()
    first = asyncio.ensure_future(pool.run(may_go.wait, WAIT_S))
    second = asyncio.ensure_future(pool.run(len, [gone_after(taken)]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    del second
    may_go.set()
    await first
    assert await asyncio.to_thread(taken.wait, WAIT_S)


async def test_closing_runs_what_is_waiting_and_ends_the_threads() -> None:
    pool, may_go, ran = Workers(2, "closing"), threading.Event(), []
    calls = [asyncio.ensure_future(pool.run(may_go.wait, WAIT_S)) for _ in range(2)]
    calls += [asyncio.ensure_future(pool.run(ran.append, index)) for index in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
    may_go.set()
    await asyncio.gather(closing, *calls)
    assert sorted(ran) == [0, 1, 2]
    assert not [each for each in threading.enumerate() if each.name.startswith("closing")]


def test_a_loop_that_is_closed_meanwhile_costs_no_thread(workers) -> None:
    pool, entered, may_go = workers(1), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert may_go.wait(WAIT_S)

    async def leave() -> None:
        call = asyncio.ensure_future(pool.run(work))
        await asyncio.to_thread(entered.wait, WAIT_S)
        call.cancel()

    asyncio.run(leave())
    errors: list[object] = []
    hook, threading.excepthook = threading.excepthook, errors.append
    try:
        may_go.set()
        pool.close()
    finally:
        threading.excepthook = hook
    assert errors == []


async def test_a_call_whose_caller_left_does_not_hold_up_the_next_one(workers) -> None:
    """It still has its thread; another is started, as long as there may be more."""
    pool, entered, may_go = workers(2), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert may_go.wait(WAIT_S)

    left = asyncio.ensure_future(pool.run(hang))
    try:
        assert await asyncio.to_thread(entered.wait, WAIT_S)
        left.cancel()
        await asyncio.wait([left])
        async with asyncio.timeout(WAIT_S / 2):
            assert await pool.run(sum, [1, 2]) == 3
    finally:
        may_go.set()


async def test_calls_one_after_another_need_one_thread(workers) -> None:
    pool = workers(4)
    names = {await pool.run(lambda: threading.current_thread().name) for _ in range(50)}
    assert names == {"test-0"}
