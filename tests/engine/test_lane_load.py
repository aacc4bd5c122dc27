"""Hundreds of requests and everything that can go wrong at once: one answer each, nothing left."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter

import numpy as np
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.fake_models import FakeModel, described
from engine.lanes import ROWS, Served, x
from engine.virtual_time import VirtualTimeLoop, in_virtual_time, settle
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.thread_instance import thread_instances
from pelton.errors import DeadlineExceeded, ModelFailed, PeltonError, Unavailable
from pelton.messages import InferRequest
from pelton.specs import Batching, Serving
from pelton.testing import FakeInstance

REQUESTS = 300
MARKED = 13
"""The model raises on every row whose number can be divided by this."""


class World:
    """Ends runs, kills and revives workers, and cancels requests, all by chance."""

    def __init__(self, seed: int, instances: int, **serving) -> None:
        self.random = random.Random(seed)
        self.served = Served(instances, **serving)
        self.runs_of_row: Counter[int] = Counter()
        self.over = False

    async def play(self) -> list[object]:
        model = asyncio.ensure_future(self.run_the_model())
        fates = await asyncio.gather(
            *[self.one_client(number) for number in range(1, REQUESTS + 1)],
            return_exceptions=True,
        )
        self.over = True
        await model
        return fates

    async def one_client(self, number: int) -> object:
        chance = self.random
        await asyncio.sleep(chance.random() * 0.2)
        asked = self.served.ask(
            *[float(number)] * chance.randint(1, 3),
            timeout_s=chance.choice([0.002, 0.02, 100.0]),
            priority=chance.randint(0, 9),
        )
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() * 0.02)
            asked.cancel()
        answer = await asked
        assert np.all(answer.outputs["x"][:, 0] == number)
        return answer

    async def run_the_model(self) -> None:
        instances = self.served.instances
        while not self.over or any(instance.current for instance in instances):
            for instance in instances:
                self.step(instance)
            await asyncio.sleep(self.random.random() * 0.002)

    def step(self, instance: FakeInstance) -> None:
        chance = self.random.random()
        if not instance.alive:
            if chance < 0.2 or self.over:
                instance.revive()
        elif instance.current is None or chance < 0.3:
            return
        elif chance < 0.35 and not self.over:
            instance.die()
        else:
            numbers = [int(number) for number in instance.current.inputs["x"][:, 0]]
            self.runs_of_row.update(set(numbers))
            if any(number % MARKED == 0 for number in numbers):
                instance.fail(ModelFailed("a marked row"))
            else:
                instance.finish()


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize(
    "batching",
    [
        Batching(max_batch_rows=1),
        Batching(max_batch_rows=8),
        Batching(max_batch_rows=8, max_delay_ms=3, preferred_batch_rows=(4,)),
        Batching(max_batch_rows=16, target_p99_ms=10),
    ],
    ids=["alone", "sharing", "waiting", "tuned"],
)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_every_request_has_one_fate_and_nothing_is_left(instances, batching, seed) -> None:
    async def main() -> None:
        world = World(seed, instances, batching=batching, max_queue_rows=200, hang_grace_s=0.05)
        fates = await world.play()
        await settle()
        assert len(fates) == REQUESTS
        for number, fate in enumerate(fates, 1):
            if isinstance(fate, ModelFailed):
                assert number % MARKED == 0, "only a marked request fails"
            elif isinstance(fate, BaseException):
                assert isinstance(fate, DeadlineExceeded | Unavailable | asyncio.CancelledError)
        kinds = Counter(type(fate).__name__ for fate in fates)
        assert kinds["InferResponse"] > 30
        told = world.served.statistics
        assert told.cancelled == kinds["CancelledError"]
        assert len(world.served.observed) == REQUESTS - kinds["CancelledError"]
        assert max(world.runs_of_row.values()) <= 2
        assert (told.queued_requests, told.queued_rows, told.queued_bytes) == (0, 0, 0)
        assert told.running == 0
        assert await world.served.engine.drain(0.0) == 0
        world.served.model.close()
        loop = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_real_threads_and_callers_that_leave(new_loop) -> None:
    def run(inputs):
        firsts = inputs["x"][:, 0]
        if np.any(firsts % MARKED == 0):
            raise ValueError("a marked row")
        return {"y": firsts * 2}

    loaded = FakeModel(run, described(ROWS))
    chance = random.Random(5)
    fates: Counter[str] = Counter()

    async def one_client(engine: Engine, number: int) -> None:
        request = InferRequest("m", {"x": x(*[float(number)] * chance.randint(1, 3))})
        asked = asyncio.ensure_future(engine.infer(request))
        await asyncio.sleep(0)
        if number % 5 == 1:
            asked.cancel()
        try:
            answer = await asked
        except ModelFailed:
            assert number % MARKED == 0
            fates["failed"] += 1
        except asyncio.CancelledError:
            fates["cancelled"] += 1
        else:
            assert set(answer.outputs["y"]) == {2 * number}
            fates["answered"] += 1

    async def main() -> None:
        serving = Serving(batching=Batching(max_batch_rows=8))
        threads = thread_instances(loaded, 3)
        model = Model(loaded.metadata, threads, serving, asyncio.get_running_loop().time)
        engine = Engine(Models([model]), lambda observed: None)
        await asyncio.gather(*[one_client(engine, number) for number in range(1, 1001)])
        assert await engine.drain(10.0) == 0
        model.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert fates.total() == 1000
    assert fates["cancelled"] == 200
    assert fates["failed"] == len([n for n in range(1, 1001) if n % MARKED == 0 and n % 5 != 1])
    assert loaded.closed == 1


# -- memory --------------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    """Only what nothing refers to is freed, at once: a body's block is free when its arrays are."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def answered(served: Served) -> None:
    for _ in range(2):
        await settle()
        served.instance.finish({"y": np.zeros(len(served.instance.current.inputs["x"]))})
    await settle()


async def split_up(served: Served) -> None:
    for _ in range(4):
        await settle()
        served.instance.finish({"y": np.zeros(1)})
    await settle()


async def failed(served: Served) -> None:
    for _ in range(4):
        await settle()
        if served.instance.current is not None:
            served.instance.fail(ModelFailed("broken"))
    await settle()


async def died(served: Served) -> None:
    await settle()
    served.instance.finish()
    await settle()
    served.instance.die()
    await settle()


async def expired(served: Served) -> None:
    await asyncio.sleep(2.0)


@pytest.mark.parametrize(
    "fate", [answered, split_up, failed, died, expired], ids=lambda fate: fate.__name__
)
@in_virtual_time
async def test_the_inputs_are_free_as_soon_as_the_answer_is_given(fate, no_collector) -> None:
    served = Served(hang_grace_s=0.5)
    inputs = [x(1.0), x(2.0), x(3.0)]
    gone = [weakref.ref(each) for each in inputs]
    asked = [served.send({"x": each}, timeout_s=1.0) for each in inputs]
    del inputs
    await settle()
    served.instance.runs.clear()
    await fate(served)
    served.instance.runs.clear()
    for one in asked:
        try:
            await one
        except PeltonError as error:
            assert error.code  # noqa: PT017 -- which error it is says another test
    one = None
    asked.clear()
    await settle()
    assert [each() is None for each in gone] == [True] * 3


@in_virtual_time
async def test_who_leaves_while_waiting_leaves_nothing(no_collector) -> None:
    served = Served()
    running = served.ask(1.0)
    given = x(2.0)
    gone = weakref.ref(given)
    waiting = served.send({"x": given})
    del given
    await settle()
    waiting.cancel()
    await settle()
    del waiting
    await settle()
    assert gone() is None
    served.instance.finish()
    await running


@in_virtual_time
async def test_who_waited_beside_a_free_instance_leaves_nothing(no_collector) -> None:
    served = Served(batching=Batching(max_batch_rows=8, max_delay_ms=5))
    given = x(2.0)
    gone = weakref.ref(given)
    asked = served.send({"x": given})
    del given
    await asyncio.sleep(0.01)
    served.instance.finish({"y": np.zeros(1)})
    served.instance.runs.clear()
    await asked
    del asked
    await settle()
    assert gone() is None


@in_virtual_time
async def test_one_timer_serves_any_number_of_requests() -> None:
    served = Served()
    loop = asyncio.get_running_loop()
    asked = [served.ask(float(index), timeout_s=10.0 + index) for index in range(100)]
    await settle()
    assert len([timer for timer in loop._scheduled if not timer.cancelled()]) == 1
    while not all(one.done() for one in asked):
        served.instance.finish()
        await settle()
    assert len([timer for timer in loop._scheduled if not timer.cancelled()]) == 1
    served.model.close()
    assert served.instance.closed
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
