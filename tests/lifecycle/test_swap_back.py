"""What comes after a swap: going back, letting the old version go, and the end of the server."""

from __future__ import annotations

import asyncio

import pytest

from engine.virtual_time import in_virtual_time, settle
from lifecycle.fake_steps import (
    FAILED,
    GOOD,
    NONFINITE,
    PLAN,
    STEPS,
    TIMES,
    FakeSteps,
    hang,
    raising,
    swap_of,
    until,
    untouched,
)
from pelton.errors import Conflict, LoadFailed, Unavailable
from pelton.lifecycle.gates import Refused
from pelton.lifecycle.swap_steps import Order

# -- going back -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_rollback_takes_no_time_and_the_version_it_takes_back_is_drained() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await swap.rollback("k2") == "v1"
    assert loop.time() == began_s
    assert steps.answering == swap.served == "v1"
    assert steps.loaded == {"v1", "v2"}
    assert (swap.kept, swap.on_probation) == (None, False)
    record = steps.records[-1]
    assert (record.before, record.after, record.cause, record.actor) == (
        "v2",
        "v1",
        "rollback",
        "k2",
    )
    assert record.numbers["requests"] == 0
    await asyncio.sleep(2.0)
    assert steps.done[-2:] == ["drain v2", "close v2"]
    assert steps.loaded == {"v1"}


@in_virtual_time
async def test_a_second_rollback_does_not_bring_the_bad_version_back() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    told = await asyncio.gather(swap.rollback(), swap.rollback(), return_exceptions=True)
    assert told[0] == "v1"
    assert isinstance(told[1], Conflict)
    assert steps.answering == "v1"


@in_virtual_time
async def test_a_rollback_after_the_probation_works_while_the_old_version_is_kept() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    await asyncio.sleep(TIMES.keep_warm_s - 1.0)
    assert not swap.on_probation
    assert await swap.rollback() == "v1"


@in_virtual_time
async def test_an_old_version_goes_when_it_was_kept_long_enough() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    await asyncio.sleep(TIMES.keep_warm_s + 2.0)
    assert steps.loaded == {"v2"}
    assert steps.done[-2:] == ["drain v1", "close v1"]
    with pytest.raises(Conflict):
        await swap.rollback()


@in_virtual_time
async def test_an_old_version_is_kept_until_the_probation_is_over_if_that_takes_longer() -> None:
    steps = FakeSteps()
    swap = swap_of(steps, keep_warm_s=0.0)
    await swap.publish(Order("v2"))
    await asyncio.sleep(PLAN.time_s - 1.0)
    assert swap.kept == "v1"
    await asyncio.sleep(3.0)
    assert (swap.kept, steps.loaded) == (None, {"v2"})


@in_virtual_time
async def test_a_version_that_fails_is_taken_back_by_itself_with_the_numbers() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    swap.see("v2", GOOD)
    for _ in range(10):
        swap.see("v2", FAILED)
    assert steps.answering == swap.served == "v1"
    record = steps.records[-1]
    assert (record.before, record.after, record.cause) == ("v2", "v1", "probation")
    assert record.numbers["reason"] == "3 of 4 requests failed; at most 2 % may"
    assert record.numbers["failed"] == 3
    await asyncio.sleep(2.0)
    assert steps.loaded == {"v1"}


@in_virtual_time
async def test_the_version_that_is_proven_stands_in_for_the_one_that_is_not() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    assert swap.stand_in("v1") is None
    await swap.publish(Order("v2"))
    assert (swap.stand_in("v2"), swap.stand_in("v1")) == ("v1", None)
    await swap.publish(Order("v3"))
    assert [swap.stand_in(one) for one in ("v1", "v2", "v3")] == [None, "v1", "v1"]
    swap.see("v3", NONFINITE)
    assert [swap.stand_in(one) for one in ("v1", "v2", "v3")] == [None, "v1", "v1"]
    await asyncio.sleep(2.0)  # both are closed
    assert [swap.stand_in(one) for one in ("v1", "v2", "v3")] == [None, None, None]


@in_virtual_time
async def test_nobody_stands_in_for_a_version_that_has_passed() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    await asyncio.sleep(PLAN.time_s + 1.0)
    assert (swap.kept, swap.stand_in("v2"), swap.stand_in("v1")) == ("v1", None, None)


@in_virtual_time
async def test_what_other_versions_do_does_not_count() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    swap.see("v1", NONFINITE)
    await swap.publish(Order("v2"))
    for version in ("v1", "v0"):
        swap.see(version, NONFINITE)
    assert swap.served == "v2"
    swap.see("v2", NONFINITE)
    assert swap.served == "v1"


@in_virtual_time
async def test_a_version_taken_back_while_the_next_is_loaded_is_not_kept_by_that() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    publish = asyncio.create_task(swap.publish(Order("v3")))
    await until(lambda: "load v3" in steps.done)
    swap.see("v2", NONFINITE)
    assert swap.served == "v1"
    await publish
    assert (swap.served, swap.kept, steps.judged[-1]) == ("v3", "v1", ("v3", "v1"))


@in_virtual_time
async def test_nothing_else_changes_what_answers_while_a_commit_is_under_way() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    publish = asyncio.create_task(swap.publish(Order("v3")))
    await until(lambda: "commit v3" in steps.done)
    swap.see("v2", NONFINITE)
    rollback = asyncio.create_task(swap.rollback())
    await settle()
    assert swap.served == "v2"
    assert not rollback.done()
    assert await publish == "v3"
    assert await rollback == "v1"
    assert [record.after for record in steps.records] == ["v2", "v3", "v1"]


@in_virtual_time
async def test_a_version_that_went_wrong_during_a_commit_that_failed_is_taken_back_then() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    steps.planned["commit"] = raising(Unavailable("the state cannot be written"))
    publish = asyncio.create_task(swap.publish(Order("v3")))
    await until(lambda: "commit v3" in steps.done)
    swap.see("v2", NONFINITE)
    with pytest.raises(Refused, match="gate 'swap'"):
        await publish
    assert swap.served == "v1"
    await asyncio.sleep(2.0)
    assert steps.loaded == {"v1"}


# -- leaving --------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_version_that_does_not_drain_is_closed_all_the_same() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned["drain v2"] = hang
    await swap.publish(Order("v2"))
    await swap.rollback()
    await asyncio.sleep(TIMES.drain_timeout_s + 1.0)
    assert steps.loaded == {"v1"}


@in_virtual_time
async def test_a_version_whose_drain_fails_is_closed_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned["drain v2"] = raising(LoadFailed("odd"))
    await swap.publish(Order("v2"))
    await swap.rollback()
    await asyncio.sleep(2.0)
    assert steps.loaded == {"v1"}
    assert "was not closed in order" in caplog.text


@pytest.mark.parametrize("step", STEPS)
@in_virtual_time
async def test_shutting_down_at_any_step_leaves_the_old_or_the_new_whole(step: str) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    publish = asyncio.create_task(swap.publish(Order("v2")))
    await until(lambda: f"{step} v2" in steps.done)
    await swap.close()
    assert steps.answering == swap.served
    assert steps.loaded == {swap.served}
    if step == "commit":
        assert await publish == "v2"
        assert steps.records[-1].after == "v2"
    else:
        assert untouched(steps, swap)
        with pytest.raises(Unavailable, match="shutting down"):
            await publish
    with pytest.raises(Unavailable, match="shutting down"):
        await swap.publish(Order("v3"))


@in_virtual_time
async def test_shutting_down_during_a_probation_closes_the_version_that_is_kept() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    await swap.close()
    assert steps.loaded == {"v2"}
    for _ in range(9):
        swap.see("v2", FAILED)
    assert swap.served == "v2"
