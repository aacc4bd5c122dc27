"""A loaded model in a thread of the server: how it runs, stops and is closed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from engine.fake_models import FakeModel
from pelton.engine.thread_instance import ThreadInstance, thread_instances
from pelton.errors import InvalidRequest, ModelFailed
from pelton.runtimes.contract import Instance, Run, Stop
from pelton.testing import FakeClock

ONE = {"x": np.ones(4, np.float32)}


def run_of(inputs=ONE) -> Run:
    return Run(inputs, deadline_s=1e9)


async def test_it_runs_in_a_thread_named_for_the_model() -> None:
    names = []

    def run(inputs):
        names.append(threading.current_thread().name)
        return {"y": inputs["x"]}

    instance: Instance = ThreadInstance(FakeModel(run))
    assert instance.alive
    outputs = await instance.run(run_of())
    assert outputs["y"] is ONE["x"]
    assert names == ["model-m-1-0"]
    instance.close()


async def test_the_models_own_time_is_noted_on_the_run() -> None:
    clock = FakeClock()
    instance = ThreadInstance(FakeModel(lambda inputs: clock.advance(0.25) or {}), clock=clock)
    run = run_of()
    await instance.run(run)
    assert run.compute_s == 0.25
    instance.close()


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt()])
async def test_what_the_model_raises_is_its_failure(error) -> None:
    def run(inputs):
        raise error

    instance = ThreadInstance(FakeModel(run))
    with pytest.raises(ModelFailed, match=f"^model 'm' raised {type(error).__name__}; ") as caught:
        await instance.run(run_of())
    assert caught.value.__cause__ is error
    instance.close()


async def test_what_the_model_says_to_its_caller_passes() -> None:
    error = InvalidRequest("no face in the picture")

    def run(inputs):
        raise error

    instance = ThreadInstance(FakeModel(run))
    with pytest.raises(InvalidRequest) as caught:
        await instance.run(run_of())
    assert caught.value is error
    instance.close()


async def test_a_model_that_can_be_stopped_gets_the_runs_stop() -> None:
    stops: list[Stop] = []

    class Stoppable(FakeModel):
        def run_until(self, inputs, stop):
            stops.append(stop)
            return dict(inputs)

    instance = ThreadInstance(Stoppable())
    run = run_of()
    assert await instance.run(run) == ONE
    assert stops == [run.stop]
    instance.close()


async def test_instances_that_share_a_model_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)
    instances = thread_instances(FakeModel(lambda inputs: {"turn": both.wait()}), 2)
    outputs = await asyncio.gather(*[instance.run(run_of()) for instance in instances])
    assert sorted(each["turn"] for each in outputs) == [0, 1]
    for instance in instances:
        instance.close()


async def test_the_last_of_those_that_share_a_model_closes_it() -> None:
    loaded = FakeModel()
    instances = thread_instances(loaded, 3)
    closed = []
    for instance in instances:
        await instance.run(run_of())
        instance.close()
        closed.append(loaded.closed)
    assert closed == [0, 0, 1]
    alone = FakeModel()
    ThreadInstance(alone).close()
    assert alone.closed == 1


async def test_the_inputs_of_a_batch_are_put_together_in_the_thread_and_once() -> None:
    threads: list[int] = []

    def together() -> dict[str, Any]:
        threads.append(threading.get_ident())
        return {"x": np.ones((2, 3), np.float32)}

    model = FakeModel(lambda inputs: {"y": inputs["x"] + 1})
    instance = ThreadInstance(model)
    run = Run(together, deadline_s=1e9)
    assert (await instance.run(run))["y"].tolist() == [[2, 2, 2]] * 2
    assert run.inputs is run.inputs
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    instance.close()


async def test_inputs_that_cannot_be_put_together_fail_their_run_and_nothing_else() -> None:
    def together() -> dict[str, Any]:
        raise MemoryError

    instance = ThreadInstance(FakeModel())
    with pytest.raises(MemoryError):
        await instance.run(Run(together, deadline_s=1e9))
    assert await instance.run(Run({}, deadline_s=1e9)) == {}
    instance.close()
