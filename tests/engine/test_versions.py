"""Several versions of one model: who answers, while one takes the place of another."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from engine.two_versions import Versions, version_of
from engine.virtual_time import in_virtual_time, settle
from pelton.errors import Code, Conflict, ModelFailed, NotFound, PeltonError, Unavailable
from pelton.messages import InferRequest, Observed, Timing
from pelton.routing.plain import from_plain
from routing.asked import split

# -- who answers ---------------------------------------------------------------------------------


@in_virtual_time
async def test_the_largest_version_answers_and_any_other_by_its_number() -> None:
    served = Versions(2, 10, 9)
    for version, answers in ((None, 10), ("2", 2), ("9", 9), ("10", 10)):
        asked = served.ask(version=version)
        await settle()
        served.runs[answers].finish()
        response = await asked
        assert (response.model, response.version) == ("m", str(answers))
        assert response.metadata is served.at[answers].metadata
    assert [one.version for one in served.observed] == [10, 2, 9, 10]


@in_virtual_time
async def test_a_label_names_a_version() -> None:
    served = Versions(1, 2)
    served.models.table = served.models.table.with_labels("m", {"stable": 1, "gone": 7})
    asked = served.ask(version="stable")
    await settle()
    served.runs[1].finish()
    assert (await asked).version == "1"
    for version in ("gone", "canary", "3", "01"):
        with pytest.raises(NotFound, match=f"version '{version}' of model 'm' is not served"):
            await served.ask(version=version)


@in_virtual_time
async def test_a_route_of_another_name_leads_to_a_model() -> None:
    served = Versions(1, 2)
    route = from_plain("old", {"policy": "pinned", "model": "m", "version": 1})
    served.models.table = served.models.table.with_route(route)
    asked = served.ask(model="old")
    await settle()
    served.runs[1].finish()
    response = await asked
    assert (response.model, response.version) == ("m", "1")
    assert served.observed[0].model == "m"
    assert served.engine.metadata("old") is served.at[1].metadata


@in_virtual_time
async def test_names_are_those_for_which_somebody_answers() -> None:
    served = Versions(1)
    table = served.models.table
    for name, plain in (
        ("good", {"policy": "latest", "model": "m"}),
        ("lost", {"policy": "latest", "model": "gone"}),
        ("early", {"policy": "pinned", "model": "m", "version": 2}),
    ):
        table = table.with_route(from_plain(name, plain))
    served.models.table = table
    assert served.engine.names() == ["good", "m"]
    assert [each.name for each in served.models.metadata()] == ["m", "m"]
    with pytest.raises(PeltonError):
        served.engine.metadata("lost")


# -- one takes the place of another --------------------------------------------------------------


@in_virtual_time
async def test_a_switch_while_requests_run_and_wait_fails_none_of_them() -> None:
    served = Versions(1)
    before = [served.ask(float(value)) for value in range(3)]
    await settle()
    new, instance = version_of(2)
    served.models.switch(new)
    after = served.ask(9.0)
    await settle()
    instance.finish()
    assert (await after).version == "2"
    served.models.remove(served.at[1])
    draining = asyncio.create_task(served.at[1].drained())
    for value in range(3):
        await settle()
        assert not draining.done()
        served.runs[1].finish({"x": np.full(1, -value, np.float32)})
    assert [(await one).version for one in before] == ["1"] * 3
    assert [(await one).outputs["x"].item() for one in before] == [0.0, -1.0, -2.0]
    await draining
    assert [one.error for one in served.observed] == [None] * 4


@in_virtual_time
async def test_a_switch_back_leaves_the_larger_version_to_those_who_name_it() -> None:
    served = Versions(1, 2)
    served.models.switch(served.at[1])
    assert served.engine.metadata("m").version == "1"
    served.models.add(version_of(3)[0])
    assert served.engine.metadata("m").version == "1"
    assert served.engine.metadata("m", "3").version == "3"


@in_virtual_time
async def test_when_the_active_version_is_removed_no_other_stands_in() -> None:
    served = Versions(1, 2, 3)
    served.models.switch(served.at[2])
    served.models.remove(served.at[2])
    with pytest.raises(Unavailable, match="version 2 of model 'm' is not ready"):
        await served.ask()
    assert served.engine.names() == []
    served.models.switch(served.at[1])
    assert served.engine.metadata("m").version == "1"


@in_virtual_time
async def test_where_none_was_set_active_the_next_largest_answers_after_a_removal() -> None:
    served = Versions(1, 2)
    served.models.remove(served.at[2])
    assert served.engine.metadata("m").version == "1"
    with pytest.raises(NotFound, match="version '2' of model 'm' is not served"):
        served.engine.metadata("m", "2")
    served.models.remove(served.at[1])
    with pytest.raises(NotFound, match="unknown model 'm'; no model is served"):
        await served.ask()


@in_virtual_time
async def test_a_version_is_added_once_and_another_load_of_it_is_not_removed_in_its_place() -> None:
    served = Versions(1)
    again, _ = version_of(1)
    with pytest.raises(Conflict, match="version 1 of model 'm' is loaded already"):
        served.models.add(again)
    served.models.remove(again)
    assert served.models.loaded() == [served.at[1]]
    served.models.switch(again)
    served.models.remove(served.at[1])
    assert served.models.loaded("m") == [again]


# -- asleep --------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_version_that_sleeps_is_known_and_not_there() -> None:
    served = Versions(1, 2)
    table = served.models.table
    served.models.sleep(served.at[2])
    assert served.models.table is table
    assert served.engine.metadata("m") is served.at[2].metadata
    assert served.engine.model_ready("m")
    assert served.models.loaded() == [served.at[1]]
    assert served.models.get("m", 2) is None
    with pytest.raises(Unavailable, match="version 2 of model 'm' is not loaded"):
        await served.ask()
    woken, _ = version_of(2)
    served.models.add(woken)
    assert served.models.table is table
    assert served.models.find("m") is woken
    assert served.engine.metadata("m") is woken.metadata


@in_virtual_time
async def test_a_version_that_sleeps_can_be_forgotten() -> None:
    served = Versions(1, 2)
    served.models.sleep(served.at[2])
    served.models.forget("m", 2)
    served.models.forget("m", 1)  # it is not asleep
    assert served.engine.metadata("m").version == "1"
    served.models.sleep(served.at[2])  # it is not there any more
    assert not served.models.table.models["m"].ready - {1}


class Lent:
    def __init__(self, lender: Lender, model) -> None:
        self.model = model
        self._lender = lender

    def release(self) -> None:
        self._lender.out.remove(self.model)


class Lender:
    """Lends what a test puts in."""

    def __init__(self) -> None:
        self.models = {}
        self.out = []
        self.waiting: dict[str, asyncio.Future] = {}

    def lease_now(self, name: str) -> Lent | None:
        return self._lent(name) if name in self.models else None

    async def lease(self, name: str) -> Lent:
        self.waiting[name] = asyncio.get_running_loop().create_future()
        await self.waiting[name]
        return self._lent(name)

    def _lent(self, name: str) -> Lent:
        self.out.append(self.models[name])
        return Lent(self, self.models[name])


@in_virtual_time
async def test_a_version_is_lent_for_as_long_as_a_request_needs_it() -> None:
    lender = Lender()
    served = Versions(1, lender=lender)
    lender.models["m/1"] = served.at[1]
    asked = served.ask()
    await settle()
    assert lender.out == [served.at[1]]
    served.runs[1].finish()
    assert (await asked).version == "1"
    assert lender.out == []
    failing = served.ask()
    await settle()
    served.runs[1].fail(ModelFailed("no"))
    with pytest.raises(ModelFailed):
        await failing
    assert lender.out == []


@in_virtual_time
async def test_a_version_that_sleeps_is_loaded_for_the_request_that_asks_for_it() -> None:
    lender = Lender()
    served = Versions(1, lender=lender)
    served.models.sleep(served.at[1])
    asked = served.ask()
    await settle()
    woken, instance = version_of(1)
    served.models.add(woken)
    lender.models["m/1"] = woken
    lender.waiting["m/1"].set_result(None)
    await settle()
    assert lender.out == [woken]
    instance.finish()
    assert (await asked).version == "1"
    assert lender.out == []


@in_virtual_time
async def test_who_cannot_be_lent_a_version_is_told_and_counted() -> None:
    lender = Lender()
    served = Versions(1, lender=lender)
    served.models.sleep(served.at[1])
    asked, leaving = served.ask(), served.ask()
    await settle()
    leaving.cancel()
    await settle()
    again = served.ask()
    await settle()
    lender.waiting["m/1"].set_exception(Unavailable("no room"))
    with pytest.raises(Unavailable, match="no room"):
        await again
    assert served.observed == [Observed("m", Code.UNAVAILABLE, Timing())]
    assert await served.engine.drain(0.0) == 1
    asked.cancel()
    await settle()
    assert await served.engine.drain(0.0) == 0


# -- who watches ---------------------------------------------------------------------------------


class Watcher:
    def __init__(self) -> None:
        self.saw = []

    def __call__(self, request, error, timing, outputs) -> None:
        self.saw.append((request.id, error, timing is not None, outputs))


@in_virtual_time
async def test_who_watches_a_version_hears_of_its_requests_and_of_no_others() -> None:
    served, watcher = Versions(1, 2), Watcher()
    served.at[2].watch = watcher
    other, asked, failing = (
        served.ask(version=version, id=f"{version}") for version in ("1", "2", None)
    )
    await settle()
    served.runs[1].finish()
    served.runs[2].finish({"x": np.ones(1)})
    await settle()
    served.runs[2].fail(ModelFailed("broken"))
    await asyncio.gather(other, asked, failing, return_exceptions=True)
    with pytest.raises(PeltonError):
        await served.engine.infer(InferRequest("m", {}, id="wrong"))
    with pytest.raises(NotFound):
        await served.ask(version="7", id="lost")
    (good, bad, wrong) = watcher.saw
    assert good[:3] == ("2", None, True)
    assert good[3]["x"].tolist() == [1.0]
    assert bad[1:] == (Code.MODEL_FAILED, False, None)
    assert wrong == ("wrong", Code.INVALID_INPUT, False, None)


# -- draining ------------------------------------------------------------------------------------


@in_virtual_time
async def test_everybody_who_waits_for_a_version_to_drain_hears_of_it() -> None:
    served = Versions(1)
    model = served.at[1]
    await model.drained()
    asked = served.ask()
    await settle()
    waiting = [asyncio.create_task(model.drained()) for _ in range(2)]
    await settle()
    assert not any(one.done() for one in waiting)
    served.runs[1].finish()
    await asyncio.gather(asked, *waiting)
    late = served.ask()
    await settle()
    again = asyncio.create_task(model.drained())
    await settle()
    assert not again.done()
    late.cancel()
    await again


# -- choices -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_split_tells_its_choice_before_the_run_and_in_the_answer() -> None:
    told = []
    served = Versions(1, 2, route=split(1, 1), chosen=lambda *of: told.append(of))
    answered = {}
    for index in range(20):
        asked = served.ask(key=f"robot-{index % 10}")
        await settle()
        assert len(told) == index + 1
        (running,) = [one for one in served.runs.values() if one.current is not None]
        running.finish()
        response = await asked
        (request, choice) = told[-1]
        assert (request.key, choice.by_key) == (choice.unit, True)
        assert str(choice.version) == response.version
        ((name, said),) = response.notes
        assert name == "x-pelton-choice"
        assert said.startswith(f"route=m, version={response.version}, ")
        assert answered.setdefault(choice.unit, response.version) == response.version
    assert set(answered.values()) == {"1", "2"}


@in_virtual_time
async def test_where_there_was_no_choice_nobody_is_told_of_it() -> None:
    told = []
    served = Versions(1, chosen=lambda *of: told.append(of))
    asked = served.ask()
    await settle()
    served.runs[1].finish()
    response = await asked
    assert (told, response.notes) == ([], ())
    assert response.timing == Timing()
