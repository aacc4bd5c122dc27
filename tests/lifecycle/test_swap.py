"""A publish changes everything or nothing, whatever fails, hangs or is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from engine.virtual_time import in_virtual_time, settle
from lifecycle.fake_steps import (
    GOOD,
    PLAN,
    STEPS,
    FakeSteps,
    hang,
    raising,
    swap_of,
    until,
    untouched,
)
from pelton.errors import Code, Conflict, ModelFailed
from pelton.lifecycle.gates import Gate, Refused
from pelton.lifecycle.swap_steps import Order, Switched

# -- a publish that goes well ---------------------------------------------------------------------


@in_virtual_time
async def test_a_version_passes_the_gates_in_order_and_answers() -> None:
    steps, gates = FakeSteps(), []
    swap = swap_of(steps)
    order = Order("v2", actor="k1", progress=gates.append)
    assert await swap.publish(order) == "v2"
    assert steps.done == ["load v2", "warm v2", "judge v2", "commit v2", "probation after v1"]
    assert gates == [Gate.LOAD, Gate.WARM, Gate.GOLDEN, Gate.SWAP]
    assert steps.answering == swap.served == "v2"
    assert steps.judged == [("v2", "v1")]
    assert steps.records == [Switched("v1", "v2", "publish", {"golden_requests": 3}, "k1")]
    assert (swap.kept, swap.on_probation) == ("v1", True)


@in_virtual_time
async def test_the_first_version_has_no_probation_and_nothing_to_go_back_to() -> None:
    steps = FakeSteps()
    swap = swap_of(steps, served=None)
    await swap.publish(Order("v1", cause="load"))
    assert steps.judged == [("v1", None)]
    assert (swap.served, swap.kept, swap.on_probation) == ("v1", None, False)
    with pytest.raises(Conflict, match="no version of model 'm' is kept to go back to"):
        await swap.rollback()


@in_virtual_time
async def test_a_version_that_has_answered_before_is_not_judged_by_the_one_that_is_to_go() -> None:
    steps = FakeSteps()
    swap = swap_of(steps, served="v2")
    await swap.publish(Order("v1", cause="rollback", proven=True))
    assert steps.judged == []
    assert steps.done[:3] == ["load v1", "warm v1", "commit v1"]
    assert steps.records[0].cause == "rollback"


# -- every step fails, hangs, is cancelled --------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "gate"), [("load", "load"), ("warm", "warm"), ("judge", "golden"), ("commit", "swap")]
)
@in_virtual_time
async def test_a_step_that_fails_changes_nothing_and_names_its_gate(step: str, gate: str) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned[step] = raising(ModelFailed("model 'm' raised ValueError"))
    with pytest.raises(Refused, match=f"gate '{gate}': model 'm' raised ValueError") as told:
        await swap.publish(Order("v2"))
    # What cannot be kept is not the model's fault, so that error keeps its own code.
    assert told.value.code is (Code.MODEL_FAILED if step == "commit" else Code.LOAD_FAILED)
    assert untouched(steps, swap), "and the candidate's memory is back before that is said"
    steps.planned.clear()
    assert await swap.publish(Order("v3")) == "v3"


@pytest.mark.parametrize("step", STEPS)
@in_virtual_time
async def test_a_mistake_in_a_step_changes_nothing_either(step: str) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned[step] = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await swap.publish(Order("v2"))
    assert untouched(steps, swap)


@pytest.mark.parametrize(
    ("step", "gate", "limit_s"),
    [("load", "load", 100), ("warm", "warm", 50), ("judge", "golden", 30)],
)
@in_virtual_time
async def test_a_step_that_hangs_is_given_up(step: str, gate: str, limit_s: int) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned[step] = hang
    message = f"gate '{gate}': it was not done within {limit_s} s"
    with pytest.raises(Refused, match=message):
        await swap.publish(Order("v2"))
    assert untouched(steps, swap)


@in_virtual_time
async def test_a_time_out_within_a_step_is_not_taken_for_ours() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.planned["load"] = raising(TimeoutError("a disk, say"))
    with pytest.raises(TimeoutError, match="a disk"):
        await swap.publish(Order("v2"))
    assert untouched(steps, swap)


@pytest.mark.parametrize("step", ["load", "warm", "judge"])
@pytest.mark.parametrize("late_s", [0.0, 0.75])
@in_virtual_time
async def test_a_publish_that_is_cancelled_at_a_step_changes_nothing(
    step: str, late_s: float
) -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    publish = asyncio.create_task(swap.publish(Order("v2")))
    await until(lambda: f"{step} v2" in steps.done)
    await asyncio.sleep(late_s)
    publish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publish
    await settle()
    assert untouched(steps, swap)
    assert await swap.publish(Order("v3")) == "v3"


@in_virtual_time
async def test_a_publish_that_is_cancelled_while_it_is_put_on_record_goes_through() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    publish = asyncio.create_task(swap.publish(Order("v2")))
    await until(lambda: "commit v2" in steps.done)
    publish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publish
    assert steps.answering == "v1"
    await asyncio.sleep(2.0)
    assert steps.answering == swap.served == steps.records[0].after == "v2"
    assert steps.loaded == {"v1", "v2"}


@in_virtual_time
async def test_who_waits_for_another_publish_may_leave() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    first = asyncio.create_task(swap.publish(Order("v2")))
    second = asyncio.create_task(swap.publish(Order("v3")))
    await settle()
    second.cancel()
    assert await first == "v2"
    assert "load v3" not in steps.done


# -- several publishes ----------------------------------------------------------------------------


@in_virtual_time
async def test_two_publishes_of_one_model_come_one_after_the_other() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await asyncio.gather(swap.publish(Order("v2")), swap.publish(Order("v3")))
    assert steps.done.index("commit v2") < steps.done.index("load v3")
    assert swap.served == "v3"


@in_virtual_time
async def test_publishes_of_two_models_go_side_by_side() -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    swaps = [swap_of(FakeSteps()), swap_of(FakeSteps())]
    await asyncio.gather(*[swap.publish(Order("v2")) for swap in swaps])
    assert loop.time() - began_s == 4.0  # as long as one of them


@in_virtual_time
async def test_a_publish_during_a_probation_keeps_the_proven_version_not_the_one_on_trial() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    await swap.publish(Order("v3"))
    assert (swap.served, swap.kept) == ("v3", "v1")
    assert steps.judged[-1] == ("v3", "v2")
    await asyncio.sleep(2.0)
    assert steps.loaded == {"v1", "v3"}
    assert steps.done[-2:] == ["drain v2", "close v2"]
    assert await swap.rollback() == "v1"


@in_virtual_time
async def test_a_publish_after_a_probation_keeps_the_version_that_passed() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    for _ in range(PLAN.requests):
        swap.see("v2", GOOD)
    assert not swap.on_probation
    assert swap.kept == "v1"
    await swap.publish(Order("v3"))
    await asyncio.sleep(2.0)
    assert (swap.served, swap.kept, steps.loaded) == ("v3", "v2", {"v2", "v3"})


@in_virtual_time
async def test_the_memory_of_a_version_on_probation_is_looked_at() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    steps.bytes = {"v1": 10, "v2": 10}
    await swap.publish(Order("v2"))
    await asyncio.sleep(3.0)
    assert swap.served == "v2"
    steps.bytes["v2"] += steps.plan.max_growth_bytes + 1
    await asyncio.sleep(2.0)
    assert (swap.served, swap.on_probation) == ("v1", False)
    assert steps.records[-1].cause == "probation"
    assert "its worker processes take" in str(steps.records[-1].numbers["reason"])


@in_virtual_time
async def test_a_candidate_is_judged_again_if_another_version_answers_meanwhile() -> None:
    steps = FakeSteps()
    swap = swap_of(steps)
    await swap.publish(Order("v2"))
    publish = asyncio.create_task(swap.publish(Order("v3")))
    await until(lambda: "judge v3" in steps.done)
    await swap.rollback()
    await publish
    assert steps.judged[-2:] == [("v3", "v2"), ("v3", "v1")]
    assert (swap.served, swap.kept) == ("v3", "v1")
