"""What a version on probation fails is answered by the version before it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from engine.fake_models import VECTOR, FakeModel, described
from engine.two_versions import Versions
from engine.virtual_time import in_virtual_time, settle
from pelton.engine.model import Model, StandIn
from pelton.engine.models import Models
from pelton.engine.stand_in import HEADER
from pelton.engine.thread_instance import thread_instances
from pelton.errors import Code, DeadlineExceeded, InvalidRequest, ModelFailed, Unavailable
from pelton.messages import InferRequest
from pelton.specs import Serving

LOST = Unavailable("its worker ended during the request")


def on_probation(**more: Any) -> Versions:
    """Return versions 1 and 2; the second answers, and the first stands in for it."""
    served = Versions(1, 2, **more)
    served.at[2].stand_in = lambda _: StandIn(1, math.inf)
    return served


@in_virtual_time
@pytest.mark.parametrize("failure", [ModelFailed("it raised"), LOST])
async def test_the_version_before_answers_and_both_are_observed(failure: Exception) -> None:
    served = on_probation()
    watched: list[tuple[int, Code | None]] = []
    for number, model in served.at.items():
        model.watch = lambda _request, code, *_, number=number: (
            watched.append((number, code)) or False
        )
    asked = served.ask(3.0, id="mine")
    await settle()
    served.runs[2].fail(failure)
    await settle()
    served.runs[1].finish()
    response = await asked
    assert (response.version, response.id) == ("1", "mine")
    assert (HEADER, "2") in response.notes
    np.testing.assert_array_equal(response.outputs["x"], [3.0])
    assert [(one.version, one.error, one.batch_rows) for one in served.observed] == [
        (2, failure.code, 0),
        (1, None, 1),
    ]
    assert watched == [(2, failure.code), (1, None)]
    await served.at[1].drained()
    await served.at[2].drained()
    assert await served.engine.drain(0.0) == 0


@in_virtual_time
@pytest.mark.parametrize("other", ["answers", "fails", "may not"])
async def test_an_answer_of_no_use_is_given_only_where_there_is_no_other(other: str) -> None:
    served = on_probation()
    served.at[2].watch = lambda *_: True
    if other == "may not":
        served.at[2].stand_in = lambda _: None
    asked = served.ask()
    await settle()
    served.runs[2].finish()
    await settle()
    if other == "answers":
        served.runs[1].finish()
    elif other == "fails":
        served.runs[1].fail(ModelFailed("it raised"))
    assert (await asked).version == ("1" if other == "answers" else "2")
    await served.at[1].drained()


@in_virtual_time
@pytest.mark.parametrize(
    "failure",
    [
        InvalidRequest("the model refuses it"),
        DeadlineExceeded("too late"),
        Unavailable("the line is full", 0.5),
    ],
)
async def test_what_the_version_is_not_to_blame_for_is_told(failure: Exception) -> None:
    served = on_probation()
    asked = served.ask()
    await settle()
    served.runs[2].fail(failure)
    with pytest.raises(type(failure)):
        await asked
    assert served.runs[1].runs == []


@in_virtual_time
async def test_if_neither_has_an_answer_the_first_failure_is_told() -> None:
    served = on_probation()
    asked = served.ask()
    await settle()
    served.runs[2].fail(ModelFailed("of the second"))
    await settle()
    served.runs[1].fail(ModelFailed("of the first"))
    with pytest.raises(ModelFailed, match="of the second"):
        await asked
    assert [one.version for one in served.observed] == [2, 1]
    await served.at[1].drained()


@in_virtual_time
async def test_patience_with_a_run_ends_and_those_behind_it_do_not_wait() -> None:
    served = on_probation()
    served.at[2].stand_in = lambda request: StandIn(1, 1.5) if request.id else None
    asked = [served.ask(id=name) for name in ("first", "behind")]
    forced = served.ask()
    await settle()
    await asyncio.sleep(1.49)
    assert served.runs[1].runs == []
    await asyncio.sleep(0.02)
    for one in asked:
        await settle()
        served.runs[1].finish()
        assert (await one).version == "1"
    assert not forced.done()
    late = served.ask(id="late")
    await settle()
    served.runs[1].finish()
    assert (await late).version == "1", "nothing is waited for while that run goes on"
    assert [one.error for one in served.observed[:2]] == [Code.UNAVAILABLE] * 2
    served.runs[2].finish()
    await settle()
    served.runs[2].finish()
    assert (await forced).version == "2"


@in_virtual_time
async def test_a_request_whose_own_time_is_over_first_is_told() -> None:
    served = on_probation()
    served.at[2].stand_in = lambda _: StandIn(1, 1.5)
    loop = asyncio.get_running_loop()
    asked = served.ask(deadline_s=loop.time() + 0.5)
    behind = served.ask()
    with pytest.raises(DeadlineExceeded):
        await asked
    await settle()
    assert not behind.done(), "that says nothing of the version"
    assert served.runs[1].runs == []
    served.runs[2].finish()
    await settle()
    served.runs[2].finish()
    assert (await behind).version == "2"


@in_virtual_time
async def test_who_waits_for_a_version_that_is_taken_back_waits_no_more() -> None:
    served = on_probation()
    running, waiting = served.ask(), served.ask()
    await settle()
    served.at[2].let_go()
    await settle()
    served.runs[1].finish()
    assert (await waiting).version == "1"
    served.runs[2].finish()
    assert (await running).version == "2"


@in_virtual_time
async def test_a_version_that_has_left_meanwhile_stands_in_for_nobody() -> None:
    served = on_probation()
    asked = served.ask()
    await settle()
    served.models.remove(served.at[1])
    served.runs[2].fail(LOST)
    with pytest.raises(Unavailable, match="worker ended"):
        await asked


@in_virtual_time
async def test_a_version_that_has_proved_itself_has_none() -> None:
    served = on_probation()
    served.at[2].stand_in = lambda _: None
    asked = served.ask()
    await settle()
    served.runs[2].fail(LOST)
    with pytest.raises(Unavailable):
        await asked


async def test_inputs_that_foreign_code_may_have_changed_are_given_to_nobody_else() -> None:
    def spoil(inputs: Any) -> Any:
        inputs["x"][:] = 0.0
        raise ValueError("broken")

    loaded = FakeModel(spoil, described(VECTOR), concurrent=False)
    threads = thread_instances(loaded, 1)
    by_thread = Model(loaded.metadata, threads, Serving(), lambda: 0.0)
    known = Model(loaded.metadata, threads, Serving(), lambda: 0.0, inline=FakeModel())
    assert (by_thread.keeps_inputs, known.keeps_inputs) == (False, True)
    by_thread.stand_in = lambda _: StandIn(1, math.inf)
    served = Versions()
    served.engine.models = Models([by_thread])
    with pytest.raises(ModelFailed):
        await served.engine.infer(InferRequest("m", {"x": np.ones(1, np.float32)}))
    assert [one.error for one in served.observed] == [Code.MODEL_FAILED]
