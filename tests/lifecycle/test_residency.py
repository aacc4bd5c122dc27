"""A model is there for whoever asks for it, as long as the budget allows it."""

from __future__ import annotations

import asyncio

import pytest

from engine.virtual_time import in_virtual_time, settle
from lifecycle.fake_world import BUDGET, FakeModel, World, residency, used
from pelton.errors import Conflict, LoadFailed, NotFound, Unavailable
from pelton.lifecycle.residency import Residency


@in_virtual_time
async def test_a_model_is_loaded_for_its_first_request_and_stays() -> None:
    world = World({"a": 40})
    models = residency(world)
    assert models.lease_now("a") is None
    await asyncio.gather(*[used(models, "a") for _ in range(20)])
    with models.lease_now("a") as model:
        model.request()
    assert world.loads == ["a"]
    assert (models.loaded(), models.used_bytes) == ({"a": 40}, 40)


@in_virtual_time
async def test_the_least_recently_used_goes_and_comes_again() -> None:
    world = World({"a": 40, "b": 40, "c": 40})
    models = residency(world)
    for name in ("a", "b", "a", "c"):
        await used(models, name)
    assert world.unloads == ["b"]
    assert models.lease_now("b") is None
    await used(models, "b")
    assert world.unloads == ["b", "a"]
    assert world.most == 80


@in_virtual_time
async def test_a_pinned_model_stays() -> None:
    world = World({"a": 40, "b": 40, "c": 40})
    models = residency(world)
    models.pin("a", pinned=True)
    for name in ("a", "b", "c"):
        await used(models, name)
    assert world.unloads == ["b"]


@in_virtual_time
async def test_a_model_with_a_lease_stays_and_the_cure_is_told() -> None:
    world = World({"a": 60, "b": 60})
    models = residency(world)
    lease = await models.lease("a")
    with pytest.raises(Unavailable, match="raise max_models_bytes"):
        await models.lease("b")
    lease.model.request()
    lease.release()
    lease.release()
    await used(models, "b")
    assert world.unloads == ["a"]


def patient(world: World) -> Residency[FakeModel]:
    models = Residency(BUDGET, world.load, world.unload, patience_s=10.0)
    for name, size in world.sizes.items():
        models.add(name, size)
    return models


@in_virtual_time
async def test_room_is_waited_for_while_requests_run_and_not_for_ever() -> None:
    models = patient(World({"a": 60, "b": 60}, load_s=0.0, unload_s=0.0))
    loop = asyncio.get_running_loop()
    lease = await models.lease("a")
    begun_s = loop.time()
    loop.call_later(3.0, lease.release)
    (await models.lease("b")).release()
    assert loop.time() - begun_s == pytest.approx(3.0, abs=0.1)
    lease, begun_s = await models.lease("a"), loop.time()
    with pytest.raises(Unavailable, match="raise max_models_bytes"):
        await models.lease("b")
    assert loop.time() - begun_s == pytest.approx(10.0, abs=0.1)
    lease.release()


@in_virtual_time
async def test_models_that_are_never_idle_have_to_go_all_the_same() -> None:
    world = World({"a": 40, "b": 40, "c": 40}, load_s=0.01, unload_s=0.01)
    models = patient(world)
    answered = dict.fromkeys(world.sizes, 0)

    async def ask(name: str, begin_s: float) -> None:
        await asyncio.sleep(begin_s)
        while asyncio.get_running_loop().time() < 1020.0:
            with models.lease_now(name) or await models.lease(name) as model:
                model.request()
                await asyncio.sleep(0.1)
                model.request()
                answered[name] += 1

    # Two for each, by turns, so that no model is without a request by itself.
    await asyncio.gather(*[ask(name, begin_s) for name in world.sizes for begin_s in (0.0, 0.05)])
    assert min(answered.values()) > 20
    assert world.most == 80


@in_virtual_time
async def test_the_end_of_what_is_held_is_not_waited_for() -> None:
    models = patient(World({"a": 60, "b": 60}))
    held, loop = await models.hold("a"), asyncio.get_running_loop()
    begun_s = loop.time()
    with pytest.raises(Unavailable, match="raise max_models_bytes"):
        await models.lease("b")
    assert loop.time() == begun_s
    held.release()
    (await models.hold("b")).release()
    await used(models, "a")


@in_virtual_time
async def test_what_could_be_done_without_makes_way() -> None:
    models = patient(World({"a": 60, "b": 60}))
    spare = [await models.hold("a")]

    async def make_way() -> bool:
        if spare:
            spare.pop().release()
            return True
        return False

    models.make_way = make_way
    held = await models.hold("b")
    with pytest.raises(Unavailable, match="raise max_models_bytes"):
        await models.lease("a")
    held.release()


@in_virtual_time
async def test_nothing_comes_between_a_load_and_the_request_that_caused_it() -> None:
    world = World({"a": 60, "b": 60})
    models = residency(world)
    first = asyncio.create_task(models.lease("a"))
    await settle()
    for _ in range(8):  # b asks again and again, also in the turn in which a has been loaded
        with pytest.raises(Unavailable):
            await models.lease("b")
        await asyncio.sleep(0.25)
    (await first).model.request()
    assert world.unloads == []


@in_virtual_time
async def test_a_request_for_a_model_that_is_being_unloaded_has_it_loaded_again() -> None:
    world = World({"a": 60, "b": 60})
    models = residency(world, budget=120)
    await used(models, "a")
    models.add("c", 60)
    world.sizes["c"] = 60
    await used(models, "b")
    evicting = asyncio.create_task(used(models, "c"))
    await settle()
    assert world.unloads == ["a"]
    assert models.lease_now("a") is None
    again = asyncio.create_task(used(models, "a"))
    await asyncio.gather(evicting, again)
    assert world.loads == ["a", "b", "c", "a"]
    assert world.most == 120


@in_virtual_time
async def test_room_that_is_being_made_is_shared_by_those_for_whom_there_will_be_enough() -> None:
    world = World({"old": 100, "a": 50, "b": 50})
    models = residency(world)
    await used(models, "old")
    await asyncio.gather(used(models, "a"), used(models, "b"))
    assert models.loaded() == {"a": 50, "b": 50}


@in_virtual_time
async def test_room_that_is_being_made_is_not_taken_by_another() -> None:
    world = World({"old": 60, "large": 100, "small": 40})
    models = residency(world)
    await used(models, "old")
    large = asyncio.create_task(used(models, "large"))
    await settle()
    with pytest.raises(Unavailable, match="busy"):
        await used(models, "small")
    await large
    assert world.most == 100


@in_virtual_time
async def test_who_leaves_while_a_model_is_loaded_leaves_it_to_be_evicted() -> None:
    world = World({"a": 60, "b": 60})
    models = residency(world)
    leaving = asyncio.create_task(models.lease("a"))
    await settle()
    leaving.cancel()
    await asyncio.sleep(2.0)
    assert models.loaded() == {"a": 60}
    await used(models, "b")
    assert world.unloads == ["a"]


@in_virtual_time
async def test_a_load_that_fails_gives_its_room_back() -> None:
    world = World({"a": 100, "b": 100}, fails={"a"})
    models = residency(world)
    told = await asyncio.gather(used(models, "a"), used(models, "a"), return_exceptions=True)
    assert [str(error) for error in told] == ["a is broken"] * 2
    assert models.used_bytes == 0
    await used(models, "b")


@in_virtual_time
async def test_a_model_that_is_larger_than_its_files_has_others_go() -> None:
    world = World({"a": 50, "b": 70}, measures=True)
    models = residency(world, b=50)
    await used(models, "a")
    await used(models, "b")
    assert models.loaded() == {"b": 70}
    assert world.unloads == ["a"]


@in_virtual_time
async def test_a_model_that_turns_out_not_to_fit_is_unloaded_again_and_remembered() -> None:
    world = World({"a": 150}, measures=True)
    models = residency(world, a=50)
    with pytest.raises(LoadFailed, match="model 'a' needs 150 bytes of the 100"):
        await used(models, "a")
    assert (world.taken, world.unloads, models.used_bytes) == ({}, ["a"], 0)
    await asyncio.sleep(100.0)
    with pytest.raises(LoadFailed, match="model 'a' needs 150 bytes of the 100"):
        await used(models, "a")
    assert world.loads == ["a"], "its true size is known now"


@in_virtual_time
async def test_without_a_budget_everything_stays() -> None:
    world = World(dict.fromkeys("abc", 10**9))
    models = residency(world, budget=None)
    for name in "abc":
        await used(models, name)
    assert models.used_bytes == 3 * 10**9


@in_virtual_time
async def test_a_model_is_removed_when_its_last_request_is_answered() -> None:
    world = World({"a": 60})
    models = residency(world)
    lease = await models.lease("a")
    removing = asyncio.create_task(models.remove("a"))
    await settle()
    assert models.lease_now("a") is None
    with pytest.raises(NotFound):
        await models.lease("a")
    with pytest.raises(Conflict):
        models.add("a", 60)
    lease.model.request()
    lease.release()
    await removing
    assert (world.unloads, models.used_bytes) == (["a"], 0)
    models.add("a", 60)
    await used(models, "a")


@in_virtual_time
async def test_a_model_that_nobody_waits_for_any_more_is_removed_after_it_was_loaded() -> None:
    world = World({"a": 60})
    models = residency(world)
    leaving = asyncio.create_task(models.lease("a"))
    await settle()
    leaving.cancel()
    await models.remove("a")
    assert (world.loads, world.unloads, world.taken) == (["a"], ["a"], {})


@in_virtual_time
async def test_who_stops_waiting_for_a_removal_leaves_the_model_in_use() -> None:
    world = World({"a": 60})
    models = residency(world)
    with await models.lease("a"):
        removing = asyncio.create_task(models.remove("a"))
        await settle()
        removing.cancel()
        await settle()
        assert removing.cancelled()
    await used(models, "a")
    assert world.unloads == []


@in_virtual_time
async def test_a_model_whose_unloading_fails_is_gone_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World({"a": 60, "b": 60})

    async def unload(name: str, model: FakeModel) -> None:
        await world.unload(name, model)
        raise ZeroDivisionError

    models = Residency(BUDGET, world.load, unload)
    models.add("a", 60)
    models.add("b", 60)
    await used(models, "a")
    await used(models, "b")
    assert "model a could not be unloaded in order" in caplog.text


@in_virtual_time
async def test_closing_gives_up_loads_and_unloads_the_rest() -> None:
    world = World({"a": 30, "b": 30, "c": 30})
    models = residency(world)
    await used(models, "a")
    waiting = asyncio.create_task(models.lease("b"))
    await settle()
    await models.close()
    assert world.taken == {}
    assert models.loaded() == {}
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable, match="shutting down"):
        await models.lease("a")


@in_virtual_time
async def test_nothing_is_loaded_any_more_while_everything_is_being_closed() -> None:
    world = World({"a": 30}, load_s=0.0)
    models = residency(world)
    waiting = asyncio.create_task(models.lease("a"))
    for _ in range(20):
        if not models.loaded():
            await asyncio.sleep(0)
    closing = asyncio.create_task(models.close())  # before the one who waits has been woken
    with pytest.raises(Unavailable, match="shutting down"):
        await waiting
    await closing
    assert (world.loads, world.unloads, world.taken) == (["a"], ["a"], {})
