"""The fakes that `pelton.testing` ships do as they are told."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pelton.errors import ModelFailed, Unavailable
from pelton.runtimes.contract import Instance, LoadedModel, Run
from pelton.specs import TensorSpec
from pelton.testing import (
    EchoRuntime,
    FailingRuntime,
    FakeClock,
    FakeInstance,
    SlowRuntime,
    echo_metadata,
)

X = np.array([1, 2], np.float32)


def test_echo_answers_with_a_copy_and_remembers() -> None:
    model: LoadedModel = EchoRuntime()
    given = model.run({"x": X, "text": "hello"})
    assert given["x"].tolist() == [1, 2]
    assert not np.shares_memory(given["x"], X)
    assert given["text"] == "hello"
    assert model.metadata.inputs == model.metadata.outputs == (TensorSpec("x", "FP32", (-1,)),)


def test_echo_tells_what_it_saw_and_that_it_was_closed() -> None:
    model = EchoRuntime(echo_metadata("other", ()), concurrent=False, quick=False)
    assert (model.metadata.name, model.concurrent, model.quick) == ("other", False, False)
    model.run({"x": X})
    assert (model.seen, model.closed) == ([{"x": X}], False)
    model.close()
    assert model.closed


def test_slow_answers_only_when_it_may() -> None:
    may_finish = threading.Event()
    model = SlowRuntime(may_finish)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(model.run, {"x": X})
        assert model.started.wait(10)
        assert (running.done(), model.seen) == (False, [])
        may_finish.set()
        assert running.result(10)["x"].tolist() == [1, 2]


def test_failing_fails_until_it_is_told_not_to() -> None:
    model = FailingRuntime(KeyError("weights"))
    with pytest.raises(KeyError, match="weights"):
        model.run({"x": X})
    model.error = None
    assert model.run({"x": X})["x"].tolist() == [1, 2]


async def test_an_instance_ends_a_run_as_it_is_told() -> None:
    fake = FakeInstance()
    instance: Instance = fake
    running = asyncio.ensure_future(instance.run(run := Run({"x": X}, deadline_s=1.0)))
    await asyncio.sleep(0)
    assert fake.current is run
    fake.finish()
    outputs = await running
    assert outputs["x"].tolist() == [1, 2]
    assert outputs["x"] is not X
    running = asyncio.ensure_future(instance.run(run))
    await asyncio.sleep(0)
    fake.fail(ModelFailed("broken"))
    with pytest.raises(ModelFailed, match="broken"):
        await running
    assert (fake.runs, fake.current) == ([run, run], None)


async def test_an_instance_dies_and_comes_back_and_tells() -> None:
    fake, told = FakeInstance(), []
    fake.on_change(lambda: told.append(fake.alive))
    running = asyncio.ensure_future(fake.run(Run({"x": X}, deadline_s=1.0)))
    await asyncio.sleep(0)
    fake.give_up()
    with pytest.raises(Unavailable, match="died"):
        await running
    with pytest.raises(AssertionError, match="not alive"):
        await fake.run(Run({}, deadline_s=1.0))
    fake.revive()
    assert told == [False, True]
    assert (fake.given_up, fake.restarts, fake.closed) == (1, 1, False)
    fake.close()
    assert fake.closed


async def test_an_instance_refuses_a_second_run_and_may_outlive_giving_up() -> None:
    fake = FakeInstance(can_be_killed=False)
    running = asyncio.ensure_future(fake.run(Run({"x": X}, deadline_s=1.0)))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="another was under way"):
        await fake.run(Run({"x": X}, deadline_s=1.0))
    fake.give_up()
    assert fake.alive
    fake.finish({"y": 3})
    assert await running == {"y": 3}


def test_the_clock_goes_only_forwards() -> None:
    clock = FakeClock(5.0)
    assert clock() == clock() == 5.0
    clock.advance(1.5)
    assert clock() == 6.5
    with pytest.raises(ValueError, match="cannot go back by 1 s"):
        clock.advance(-1)
