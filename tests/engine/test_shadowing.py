"""Copies for shadows, which nobody waits for, and exposures, which are put once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest

from engine.two_versions import Versions
from engine.virtual_time import in_virtual_time, settle
from pelton.batching.line import LOWEST_LEVEL
from pelton.caching.key import ON_LOOP_BYTES
from pelton.engine import shadowing
from pelton.engine.models import Models
from pelton.engine.shadowing import LONGEST_S, MOST_IN_FLIGHT, ShadowCounts, Shadows, make_chosen
from pelton.errors import Code, ModelFailed
from pelton.messages import InferRequest, Observed
from pelton.records import Exposure
from pelton.routing.choice import Choice
from pelton.runtimes.contract import Run
from pelton.testing import FakeInstance
from routing.asked import split

TO_2 = {"policy": "pinned", "version": 1, "shadow": {"version": 2, "share": 1.0}}


class Shadowed(Versions):
    """Version 1 answers, and 2 sees a copy of every request."""

    def __init__(self) -> None:
        super().__init__(1, 2, route=TO_2, chosen=lambda *of: self.chosen(*of))
        self.apart: list[Observed] = []
        clock = asyncio.get_running_loop().time
        self.shadows = Shadows(self.models, clock, self.apart.append)
        self.chosen = make_chosen(self.shadows, None, lambda: 0.0)

    async def answer(self, value: float = 1.0, **more: Any):
        asked = self.ask(value, **more)
        await settle()
        self.runs[1].finish()
        return await asked

    @property
    def copies(self) -> list[float]:
        return [run.inputs["x"][0] for run in self.runs[2].runs]


@in_virtual_time
async def test_a_shadow_sees_a_copy_and_never_answers() -> None:
    served = Shadowed()
    request = InferRequest("m", {"x": np.full(3, 7.0, np.float32)}, log_id="r-1")
    asked = asyncio.ensure_future(served.engine.infer(request))
    await settle()
    (run,) = served.runs[2].runs
    assert run.inputs["x"].tolist() == [7.0] * 3
    assert not np.shares_memory(run.inputs["x"], request.inputs["x"])
    served.runs[1].finish()
    response = await asked
    assert response.version == "1"
    assert (response.notes, len(served.observed), served.apart) == ((), 1, [])
    served.runs[2].finish({"x": np.zeros(1)})
    await served.shadows.settled()
    assert (len(served.observed), served.shadows.counts) == (1, ShadowCounts(answered=1))
    (seen,) = served.apart
    assert (seen.model, seen.version, seen.error, seen.batch_rows) == ("m", 2, None, 1)


@in_virtual_time
async def test_the_shadow_sees_what_came_whatever_the_model_writes_to_it() -> None:
    served = Shadowed()
    inputs = {"x": np.full(1, 7.0, np.float32)}
    asked = asyncio.ensure_future(served.engine.infer(InferRequest("m", inputs)))
    await asyncio.sleep(0)
    inputs["x"][:] = 0.0
    await settle()
    assert served.copies == [7.0]
    served.runs[1].finish()
    await asked
    served.runs[2].finish()
    await served.shadows.settled()


@in_virtual_time
async def test_a_shadow_that_fails_is_counted_apart_and_told_at_debug(caplog) -> None:
    served = Shadowed()
    with caplog.at_level(logging.DEBUG, "pelton.engine"):
        await served.answer(log_id="r-7")
        served.runs[2].fail(ModelFailed("broken"))
        await served.shadows.settled()
    assert served.shadows.counts == ShadowCounts(failed=1)
    assert [one.error for one in served.apart] == [Code.MODEL_FAILED]
    assert [one.error for one in served.observed] == [None]
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "version 2 of m failed as a shadow, request r-7: " in record.getMessage()


@in_virtual_time
async def test_while_somebody_waits_for_the_shadow_it_gets_no_copy() -> None:
    served = Shadowed()
    own = [served.ask(version="2") for _ in range(2)]
    await settle()
    await served.answer()
    assert served.shadows.counts == ShadowCounts(shed=1)
    for _ in own:
        served.runs[2].finish()
        await settle()
    await asyncio.gather(*own)


@in_virtual_time
async def test_while_somebody_waits_for_the_answer_no_copy_is_made() -> None:
    served = Shadowed()
    asked = [served.ask(float(value)) for value in range(3)]
    await settle()
    # The first found nobody waiting, nor did the second when it came.
    assert served.shadows.counts.shed == 1
    for _ in asked:
        served.runs[1].finish()
        await settle()
    await asyncio.gather(*asked)
    served.runs[2].finish()
    await settle()
    served.runs[2].finish()
    await served.shadows.settled()
    assert served.copies == [0.0, 1.0]


@in_virtual_time
async def test_only_a_few_copies_are_under_way(monkeypatch) -> None:
    served = Shadowed()
    monkeypatch.setattr(type(served.at[2]), "waiting", False)
    for value in range(MOST_IN_FLIGHT + 3):
        await served.answer(float(value))
    assert served.shadows.counts.shed == 3
    for _ in range(MOST_IN_FLIGHT):
        served.runs[2].finish()
        await settle()
    assert served.copies == [float(value) for value in range(MOST_IN_FLIGHT)]
    assert served.shadows.counts.answered == MOST_IN_FLIGHT
    await served.answer(99.0)
    await settle()
    assert served.copies[-1] == 99.0
    served.runs[2].finish()
    await served.shadows.settled()


@in_virtual_time
async def test_a_shadow_that_hangs_is_given_up() -> None:
    served = Shadowed()
    begun_s = asyncio.get_running_loop().time()
    await served.answer()
    await served.shadows.settled()
    assert asyncio.get_running_loop().time() - begun_s == pytest.approx(LONGEST_S, abs=0.1)
    assert [one.error for one in served.apart] == [Code.DEADLINE_EXCEEDED]


@in_virtual_time
async def test_whoever_comes_after_a_copy_that_waits_is_served_before_it(monkeypatch) -> None:
    served = Shadowed()
    own = [served.ask(1.0, version="2")]
    await settle()
    await served.answer(50.0)  # its copy waits
    own.append(served.ask(2.0, version="2"))
    await settle()
    for _ in range(3):
        served.runs[2].finish()
        await settle()
    await asyncio.gather(*own)
    await served.shadows.settled()
    assert served.copies == [1.0, 2.0, 50.0]
    assert LOWEST_LEVEL == 9


@in_virtual_time
async def test_a_shadow_that_is_not_there_is_no_harm() -> None:
    served = Shadowed()
    served.runs[2].alive = False
    await served.answer()
    served.models.sleep(served.at[2])
    await served.answer()
    assert served.shadows.counts == ShadowCounts(shed=2)


@in_virtual_time
async def test_a_version_is_not_drained_while_it_is_somebodys_shadow() -> None:
    served = Shadowed()
    await served.answer()
    draining = asyncio.create_task(served.at[2].drained())
    await settle()
    assert not draining.done()
    served.runs[2].finish()
    await draining


async def begun_runs(instance: FakeInstance) -> list[Run]:
    """Wait until a thread has made the copy."""
    async with asyncio.timeout(10.0):
        while not instance.runs:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return instance.runs


@pytest.mark.parametrize("size", [1, ON_LOOP_BYTES])
async def test_large_inputs_are_copied_in_a_thread(size) -> None:
    served = Shadowed()
    asked = served.ask(3.0, size=size)
    await settle()
    served.runs[1].finish()
    await asked
    (run,) = await begun_runs(served.runs[2])
    assert run.inputs["x"].tolist() == [3.0] * size
    served.runs[2].finish()
    await served.shadows.settled()
    assert served.shadows.counts == ShadowCounts(answered=1)


@pytest.mark.parametrize("size", [100, ON_LOOP_BYTES])
async def test_what_is_too_large_to_copy_is_shed(monkeypatch, size) -> None:
    monkeypatch.setattr(shadowing, "MOST_BYTES", 256)
    served = Shadowed()
    asked = served.ask(size=size)
    await settle()
    served.runs[1].finish()
    await asked
    await served.shadows.settled()
    assert served.shadows.counts == ShadowCounts(shed=1)
    await served.at[2].drained()


# -- exposures -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_unit_is_put_once_with_the_time_and_the_salt() -> None:
    put: list[Exposure] = []
    served = Versions(1, 2, route=split(1, 0, salt="july"), chosen=lambda *of: chosen(*of))
    shadows = Shadows(served.models, asyncio.get_running_loop().time, served.observed.append)
    chosen = make_chosen(shadows, put.append, lambda: 1_750_000_000.0)
    for _ in range(2):
        asked = served.ask(key="ann")
        await settle()
        served.runs[1].finish()
        await asked
    assert put == [Exposure("m", "ann", True, "1", 1.0, True, False, 1_750_000_000.0, salt="july")]


def test_without_a_store_no_exposure_is_made() -> None:
    chosen = make_chosen(Shadows(Models(), lambda: 0.0, _unheard), None, _never)
    chosen(InferRequest("m", {}), Choice("m", "m", 1, "1", unit="ann", by_key=True))


def _unheard(observed: Observed) -> None:
    raise AssertionError("there is no copy")


def _never() -> float:
    raise AssertionError("nobody needs to know the time")
