"""Each request of a batch has its own fate: its mates' answers are bit for bit those of alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from engine.lanes import Served, rows_of_runs, x
from engine.virtual_time import block, in_virtual_time, settle
from pelton.errors import DeadlineExceeded, InvalidRequest, ModelFailed, PeltonError, Unavailable
from pelton.messages import Value
from pelton.testing import FakeInstance

SEED = np.random.default_rng(3)
INPUTS = [SEED.standard_normal((rows, 2), np.float32) for rows in (1, 2, 3)]
FAULTS = [0, 1, 2]


def model(inputs: dict[str, Value]) -> dict[str, Value]:
    """Compute each row by itself, as a model with a batch axis has to."""
    return {"y": np.tanh(inputs["x"] * 3 + 1), "n": inputs["x"][:, 0] > 0}


ALONE = [model({"x": rows}) for rows in INPUTS]


async def together(served: Served, **of_one) -> list[asyncio.Future]:
    """Occupy the instance, let the three wait, and see them run as one batch."""
    (index, timeout_s) = of_one.get("timeout", (None, 0.0))
    first = served.ask(0.0)
    await settle()
    asked = [
        served.send({"x": rows}, timeout_s if position == index else 100.0)
        for position, rows in enumerate(INPUTS)
    ]
    await settle()
    served.instance.finish()
    await first
    await settle()
    assert served.instance.current.inputs["x"].shape == (6, 2)
    return asked


async def assert_mates_are_as_alone(asked, without: int) -> None:
    for index, one in enumerate(asked):
        if index != without:
            outputs = (await one).outputs
            assert list(outputs) == ["y", "n"]
            for name, alone in ALONE[index].items():
                np.testing.assert_array_equal(outputs[name], alone, strict=True)
                assert outputs[name].tobytes() == alone.tobytes()


@pytest.mark.parametrize("gone", FAULTS)
@in_virtual_time
async def test_a_member_cancelled_while_running_leaves_its_mates_as_they_are(gone: int) -> None:
    served = Served()
    asked = await together(served)
    asked[gone].cancel()
    await settle()
    assert asked[gone].cancelled()
    assert not served.instance.current.stop.asked
    served.instance.finish(model(served.instance.current.inputs))
    await assert_mates_are_as_alone(asked, without=gone)
    assert served.statistics.cancelled == 1


@pytest.mark.parametrize("gone", FAULTS)
@in_virtual_time
async def test_a_member_cancelled_while_waiting_leaves_its_mates_as_they_are(gone: int) -> None:
    served = Served()
    first = served.ask(0.0)
    await settle()
    asked = [served.send({"x": rows}) for rows in INPUTS]
    await settle()
    asked[gone].cancel()
    await settle()
    served.instance.finish()
    await first
    await settle()
    mates = [rows for index, rows in enumerate(INPUTS) if index != gone]
    np.testing.assert_array_equal(served.instance.current.inputs["x"], np.concatenate(mates))
    served.instance.finish(model(served.instance.current.inputs))
    await assert_mates_are_as_alone(asked, without=gone)


@pytest.mark.parametrize("late", FAULTS)
@in_virtual_time
async def test_a_member_that_expires_while_running_leaves_its_mates_as_they_are(late: int) -> None:
    served = Served()
    asked = await together(served, timeout=(late, 5.0))
    begun_s = served.clock()
    with pytest.raises(DeadlineExceeded):
        await asked[late]
    assert served.clock() - begun_s == pytest.approx(5.0, abs=0.002)
    assert not served.instance.current.stop.asked
    served.instance.finish(model(served.instance.current.inputs))
    await assert_mates_are_as_alone(asked, without=late)
    assert served.statistics.expired == 1


@pytest.mark.parametrize("marked", FAULTS)
@pytest.mark.parametrize("error", [ModelFailed("nan in a row"), InvalidRequest("no face")])
@in_virtual_time
async def test_a_member_on_which_the_model_raises_fails_alone(marked: int, error) -> None:
    served = Served()
    asked = await together(served)
    served.instance.fail(error)
    for index, rows in enumerate(INPUTS):
        await settle()
        run = served.instance.current
        np.testing.assert_array_equal(run.inputs["x"], rows)
        if index == marked:
            served.instance.fail(type(error)("this one"))
        else:
            served.instance.finish(model(run.inputs))
    with pytest.raises(type(error), match="this one"):
        await asked[marked]
    await assert_mates_are_as_alone(asked, without=marked)
    assert len(served.instance.runs) == 1 + 1 + 3, "once together, then once each"


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param({"y": np.zeros(5)}, id="rows missing"),
        pytest.param({"y": np.zeros((7, 2))}, id="rows too many"),
        pytest.param({"y": np.float32(3)}, id="no rows"),
        pytest.param({"y": "text"}, id="no array"),
        pytest.param({"y": [0] * 6}, id="a list"),
    ],
)
@in_virtual_time
async def test_outputs_that_cannot_be_split_have_each_request_run_alone(outputs, caplog) -> None:
    caplog.set_level("INFO", "pelton.engine")
    served = Served()
    asked = await together(served)
    served.instance.finish(outputs)
    for _ in INPUTS:
        await settle()
        served.instance.finish(model(served.instance.current.inputs))
    await assert_mates_are_as_alone(asked, without=-1)
    line, warning = caplog.messages
    assert "run one by one from now on" in warning
    assert "6 rows as one batch" in line
    assert line.endswith("; the 3 requests of its batch run alone")


@in_virtual_time
async def test_a_death_costs_the_batch_and_is_not_tried_again() -> None:
    served = Served()
    asked = await together(served)
    waiting = served.ask(7.0)
    await settle()
    served.instance.die()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [Unavailable] * 3
    assert len({id(error) for error in errors}) == 3, "each caller raises an error of its own"
    assert [error.retry_after_s for error in errors] == [1.0] * 3
    served.instance.revive()
    await settle()
    served.instance.finish()
    np.testing.assert_array_equal((await waiting).outputs["x"], x(7.0))
    assert len(served.instance.runs) == 3


@in_virtual_time
async def test_not_now_from_the_model_itself_reaches_each_member() -> None:
    class Overheated(Unavailable):
        def __init__(self, degrees: int, unit: str) -> None:
            super().__init__(f"too hot: {degrees} {unit}", 30.0)

    served = Served()
    asked = await together(served)
    served.instance.fail(Overheated(99, "C"))
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert (error.message, error.retry_after_s) == ("too hot: 99 C", 30.0)


@in_virtual_time
async def test_one_that_kills_the_worker_when_it_runs_alone_takes_nobody_elses_answer() -> None:
    served = Served()
    asked = await together(served)
    served.instance.fail(ModelFailed("one of you"))
    await settle()
    served.instance.finish(model(served.instance.current.inputs))
    await settle()
    served.instance.die()
    np.testing.assert_array_equal((await asked[0]).outputs["y"], ALONE[0]["y"])
    for one in asked[1:]:
        with pytest.raises(Unavailable):
            await one


@in_virtual_time
async def test_a_model_that_raises_on_a_marked_row_fails_that_request_of_many() -> None:
    served = Served(instances=2)
    asked = [served.ask(*([float(index)] * (1 + index % 3))) for index in range(60)]
    await settle()
    while any(run_one(instance) for instance in served.instances):
        await settle()
    for index, one in enumerate(asked):
        if index % 7 == 3:
            with pytest.raises(ModelFailed, match="a marked row"):
                await one
        else:
            np.testing.assert_array_equal((await one).outputs["y"], [index] * (1 + index % 3))


def run_one(instance: FakeInstance) -> bool:
    if instance.current is None:
        return False
    firsts = instance.current.inputs["x"][:, 0]
    if np.any(firsts % 7 == 3):
        instance.fail(ModelFailed("a marked row"))
    else:
        instance.finish({"y": firsts})
    return True


@in_virtual_time
async def test_only_those_who_are_still_there_run_alone() -> None:
    served = Served()
    asked = await together(served, timeout=(2, 5.0))
    served.instance.fail(ModelFailed("one of you"))
    asked[1].cancel()
    await settle()
    with pytest.raises(DeadlineExceeded):
        await asked[2]
    served.instance.finish(model(served.instance.current.inputs))
    np.testing.assert_array_equal((await asked[0]).outputs["y"], ALONE[0]["y"])
    await settle()
    assert [len(firsts) for firsts in rows_of_runs(served.instance)] == [1, 6, 1]
    assert served.statistics.running == 0


@in_virtual_time
async def test_one_whose_time_is_over_before_its_turn_alone_does_not_run() -> None:
    served = Served()
    asked = await together(served, timeout=(2, 5.0))
    served.instance.fail(ModelFailed("one of you"))
    for index in range(2):
        await settle()
        block(4.0)
        served.instance.finish(model({"x": INPUTS[index]}))
    with pytest.raises(DeadlineExceeded):
        await asked[2]
    await assert_mates_are_as_alone(asked, without=2)
    assert len(served.instance.runs) == 4


@in_virtual_time
async def test_a_batch_that_breaks_in_an_unknown_way_still_tells_everyone() -> None:
    served = Served()
    asked = await together(served)
    served.instance.fail(OSError("the pipe"))
    for _ in INPUTS:
        await settle()
        served.instance.fail(OSError("the pipe again"))
    for one in asked:
        with pytest.raises(OSError, match="the pipe again") as caught:
            await one
        assert not isinstance(caught.value, PeltonError)
