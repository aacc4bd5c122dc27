"""The same is computed once at a time; every one who asks has a fate of its own."""

from __future__ import annotations

import asyncio
import gc
import math

import pytest

from engine.virtual_time import in_virtual_time, settle
from pelton.caching.in_flight import InFlight
from pelton.engine import eager
from pelton.errors import Code, DeadlineExceeded, ModelFailed, Unavailable

KEY = b"k"


class Computing:
    """Computations that end when the test says so."""

    def __init__(self) -> None:
        self.started: list[asyncio.Future[str]] = []
        self.in_flight: InFlight[str] = InFlight(asyncio.get_running_loop().time)

    async def __call__(self) -> str:
        self.started.append(asyncio.get_running_loop().create_future())
        return await self.started[-1]

    def ask(self, key: bytes = KEY, within_s: float = math.inf) -> asyncio.Task[tuple[str, bool]]:
        deadline_s = asyncio.get_running_loop().time() + within_s
        return asyncio.create_task(self.in_flight.share(key, deadline_s, self))


@in_virtual_time
async def test_the_first_computes_and_the_others_share() -> None:
    computing = Computing()
    asking = [computing.ask() for _ in range(3)]
    await settle()
    assert len(computing.started) == 1
    assert computing.in_flight.anyone_waits(KEY)
    computing.started[0].set_result("answer")
    assert await asyncio.gather(*asking) == [("answer", False), ("answer", True), ("answer", True)]
    assert len(computing.in_flight) == 0


@in_virtual_time
async def test_different_questions_do_not_wait_for_each_other() -> None:
    computing = Computing()
    asking = [computing.ask(b"a"), computing.ask(b"b")]
    await settle()
    assert len(computing.started) == 2
    assert not computing.in_flight.anyone_waits(b"a")
    computing.started[1].set_result("b")
    computing.started[0].set_result("a")
    assert await asyncio.gather(*asking) == [("a", False), ("b", False)]


@in_virtual_time
async def test_who_asks_after_the_end_computes_again() -> None:
    computing = Computing()
    for answer in ("one", "two"):
        asking = computing.ask()
        await settle()
        computing.started[-1].set_result(answer)
        assert await asking == (answer, False)


@in_virtual_time
async def test_when_the_first_leaves_one_of_the_others_computes() -> None:
    computing = Computing()
    first, second, third = (computing.ask() for _ in range(3))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert computing.started[0].cancelled(), "nobody wants the first computation any more"
    assert len(computing.started) == 2
    computing.started[1].set_result("answer")
    assert await asyncio.gather(second, third) == [("answer", False), ("answer", True)]


@in_virtual_time
async def test_when_all_leave_nothing_goes_on() -> None:
    computing = Computing()
    asking = [computing.ask() for _ in range(3)]
    await settle()
    for each in asking:
        each.cancel()
    await settle()
    assert all(each.cancelled() for each in asking)
    assert len(computing.started) == 1
    assert len(computing.in_flight) == 0


@in_virtual_time
async def test_one_who_waits_may_leave_without_harm_to_the_others() -> None:
    computing = Computing()
    first, second, third = (computing.ask() for _ in range(3))
    await settle()
    second.cancel()
    await settle()
    computing.started[0].set_result("answer")
    assert await asyncio.gather(first, third) == [("answer", False), ("answer", True)]
    assert second.cancelled()


@in_virtual_time
async def test_nobody_waits_once_those_who_waited_have_left() -> None:
    computing = Computing()
    first, second = computing.ask(), computing.ask()
    await settle()
    second.cancel()
    await settle()
    assert not computing.in_flight.anyone_waits(KEY)
    computing.started[0].set_result("answer")
    await first


@in_virtual_time
async def test_the_deadline_of_the_first_is_its_own() -> None:
    computing = Computing()
    first, second, third = (computing.ask() for _ in range(3))
    await settle()
    computing.started[0].set_exception(DeadlineExceeded("late"))
    await settle()
    assert len(computing.started) == 2
    computing.started[1].set_result("answer")
    with pytest.raises(DeadlineExceeded, match="late"):
        await first
    assert await asyncio.gather(second, third) == [("answer", False), ("answer", True)]


@in_virtual_time
async def test_who_waits_does_so_until_its_own_deadline() -> None:
    computing = Computing()
    first, second, third = computing.ask(), computing.ask(within_s=5), computing.ask(within_s=9)
    started_s = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="another one with the same content"):
        await second
    assert asyncio.get_running_loop().time() - started_s == pytest.approx(5)
    computing.started[0].set_result("answer")
    assert await asyncio.gather(first, third) == [("answer", False), ("answer", True)]


@in_virtual_time
async def test_a_failure_is_told_to_all_and_forgotten() -> None:
    computing = Computing()
    asking = [computing.ask() for _ in range(3)]
    await settle()
    failed = Unavailable("the worker died", 1.5)
    failed.__cause__ = ValueError("why")
    computing.started[0].set_exception(failed)
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3, "each has an error of its own"
    for error in errors:
        assert type(error) is Unavailable
        assert (error.message, error.code, error.retry_after_s) == (
            "the worker died",
            Code.UNAVAILABLE,
            1.5,
        )
        assert str(error) == "the worker died"
        assert repr(error.__cause__) == "ValueError('why')"
    assert len(computing.started) == 1
    again = computing.ask()
    await settle()
    computing.started[1].set_result("answer")
    assert await again == ("answer", False)


@in_virtual_time
async def test_an_error_that_is_none_of_ours_concerns_only_the_first() -> None:
    computing = Computing()
    first, second = computing.ask(), computing.ask()
    await settle()
    computing.started[0].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await first
    await settle()
    computing.started[1].set_result("answer")
    assert await second == ("answer", False)


@in_virtual_time
async def test_a_request_that_is_begun_outside_of_any_task_may_wait_with_a_deadline() -> None:
    computing = Computing()
    told: list[object] = []

    async def ask() -> None:
        deadline_s = asyncio.get_running_loop().time() + 5
        try:
            told.append(await computing.in_flight.share(KEY, deadline_s, computing))
        except DeadlineExceeded:
            told.append("late")

    def begin() -> None:
        rests.append(eager.start(ask()))

    rests: list[asyncio.Task[None] | None] = []
    asyncio.get_running_loop().call_soon(begin)
    asyncio.get_running_loop().call_soon(begin)
    await settle()
    await asyncio.sleep(6)
    assert told == ["late"]
    computing.started[0].set_result("answer")
    await asyncio.gather(*rests)
    assert told == ["late", ("answer", False)]


@in_virtual_time
async def test_errors_leave_no_cycles_that_would_hold_a_request() -> None:
    computing = Computing()

    async def ask() -> None:
        with pytest.raises(ModelFailed):
            await computing.in_flight.share(KEY, math.inf, fails)

    async def fails() -> str:
        await asyncio.sleep(1)
        raise ModelFailed("no")

    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(ask(), ask())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [each for each in gc.garbage if isinstance(each, ModelFailed)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
