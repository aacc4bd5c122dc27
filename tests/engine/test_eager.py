"""A coroutine that is started eagerly behaves as in a task; it only begins earlier."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from pelton.engine import eager


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


def test_what_never_waits_is_done_at_once(runner) -> None:
    async def main() -> None:
        done = []

        async def inner() -> None:
            done.append(1)

        async def quick() -> None:
            await inner()
            done.append(2)

        tasks = asyncio.all_tasks()
        assert eager.start(quick()) is None
        assert done == [1, 2]
        assert asyncio.all_tasks() == tasks

    runner.run(main())


def test_a_future_that_is_done_already_is_no_wait(runner) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_result("there")
        got = []

        async def quick() -> None:
            got.append(await future)

        assert eager.start(quick()) is None
        assert got == ["there"]

    runner.run(main())


def test_what_waits_goes_on_with_the_result(runner) -> None:
    async def main() -> None:
        loop, steps = asyncio.get_running_loop(), []
        first, second = loop.create_future(), loop.create_future()

        async def slow() -> None:
            steps.append("begun")
            steps.append(await first)
            await asyncio.sleep(0)
            steps.append(await second)

        task = eager.start(slow())
        assert steps == ["begun"]
        assert isinstance(task, asyncio.Task)
        first.set_result("one")
        second.set_result("two")
        await task
        assert steps == ["begun", "one", "two"]

    runner.run(main())


def test_a_bare_yield_to_the_loop_is_a_wait(runner) -> None:
    async def main() -> None:
        steps = []

        async def polite() -> None:
            await asyncio.sleep(0)
            steps.append(1)

        task = eager.start(polite())
        assert task is not None
        assert steps == []
        await task
        assert steps == [1]

    runner.run(main())


def test_a_thread_can_be_waited_for(runner) -> None:
    async def main() -> None:
        got = []

        async def slow() -> None:
            got.append(await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2]))
            got.append(await asyncio.to_thread(sum, [3, 4]))

        task = eager.start(slow())
        assert task is not None
        await task
        assert got == [3, 7]

    runner.run(main())


def test_an_error_before_the_first_wait_comes_straight_out(runner) -> None:
    async def main() -> None:
        async def broken() -> None:
            raise ValueError("early")

        with pytest.raises(ValueError, match="early"):
            eager.start(broken())

    runner.run(main())


def test_an_error_of_what_is_waited_for_is_raised_in_the_coroutine(runner) -> None:
    async def main() -> None:
        future, caught = asyncio.get_running_loop().create_future(), []

        async def slow() -> None:
            try:
                await future
            except ValueError as error:
                caught.append(str(error))
            await asyncio.sleep(0)
            caught.append("went on")

        task = eager.start(slow())
        future.set_exception(ValueError("late"))
        await task
        assert caught == ["late", "went on"]

    runner.run(main())


def test_an_error_after_a_wait_is_the_tasks(runner) -> None:
    async def main() -> None:
        async def slow() -> None:
            await asyncio.sleep(0)
            raise ValueError("late")

        task = eager.start(slow())
        assert task is not None
        with pytest.raises(ValueError, match="late"):
            await task

    runner.run(main())


def test_cancelling_reaches_the_coroutine_and_what_it_waits_for(runner) -> None:
    async def main() -> None:
        future, seen = asyncio.get_running_loop().create_future(), []

        async def slow() -> None:
            try:
                await future
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            finally:
                seen.append("left")

        task = eager.start(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cancelled", "left"]
        assert task.cancelled()
        assert future.cancelled()

    runner.run(main())


def test_a_coroutine_may_clean_up_with_waits_when_it_is_cancelled(runner) -> None:
    async def main() -> None:
        seen = []

        async def slow() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                seen.append("cleaned up")

        task = eager.start(slow())
        await asyncio.sleep(0)
        task.cancel()
        await task
        assert seen == ["cleaned up"]
        assert not task.cancelled()

    runner.run(main())


def test_cancelling_before_the_loop_went_round_still_leaves_the_coroutine(runner) -> None:
    async def main() -> None:
        seen = []

        async def slow() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                seen.append("left")

        task = eager.start(slow())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert seen == ["left"]

    runner.run(main())


def test_cancelling_before_the_loop_went_round_reaches_what_it_waits_for(runner) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()

        async def slow() -> None:
            await future

        task = eager.start(slow())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert future.cancelled()

    runner.run(main())


def test_many_at_a_time_end_each_in_its_own_order(runner) -> None:
    async def main() -> None:
        loop, ended = asyncio.get_running_loop(), []
        futures = [loop.create_future() for _ in range(20)]

        async def slow(index: int) -> None:
            ended.append((index, await futures[index]))

        tasks = [eager.start(slow(index)) for index in range(20)]
        await asyncio.sleep(0)
        for index in reversed(range(20)):
            futures[index].set_result(index * index)
        await asyncio.gather(*tasks)
        assert ended == [(index, index * index) for index in reversed(range(20))]

    runner.run(main())
