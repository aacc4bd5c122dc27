"""The result cache in front of a model that is quick enough to run on the event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Mapping
from unittest.mock import Mock

import numpy as np
import pytest

from engine.two_versions import X
from pelton.buffers import BufferPool
from pelton.caching.making import cache_for
from pelton.engine import eager
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import DeadlineExceeded, ModelFailed
from pelton.messages import InferRequest, InferResponse, Value
from pelton.specs import ModelMetadata, Serving
from pelton.testing import EchoRuntime, FakeInstance
from pelton.testing.fakes import FakeClock
from pelton.wire.limits import Limits
from pelton.wire.oip_request import decode_request

MISS, HIT = ((("x-pelton-cache", how),) for how in ("miss", "hit"))
METADATA = ModelMetadata("m", "1", "fake", (X,), (X,))


class Quick(EchoRuntime):
    """Answers with what `run` makes of the input.

    Attributes:
        runs: how often it ran.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(METADATA, quick=True)
        self.runs = 0
        self._run = run

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.runs += 1
        return {"x": self._run(inputs["x"])}


class Served:
    """A quick model whose answers are kept, known to be quick for any size of inputs.

    Attributes:
        quick: the model.
        model: its version.
        cache: keeps its answers.
        clock: the time.
        observed: what monitoring heard.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray] = np.negative) -> None:
        self.quick = Quick(run)
        self.clock = FakeClock(1000.0)
        self.model = Model(METADATA, [FakeInstance()], Serving(), self.clock, self.quick)
        for bits in range(20):
            times = self.model._placement.of(2**bits)
            for _ in range(10):
                times.learn(0.0)
        told = Serving(cache=True)
        self.cache = self.model.cache = cache_for(METADATA, told, "", self.clock)
        self.observed: list[object] = []
        self.engine = Engine(Models([self.model]), self.observed.append)

    def ask(self, request: InferRequest) -> InferResponse:
        """Answer a request, which waits for nothing."""
        answered: list[InferResponse | Exception] = []

        async def asking() -> None:
            try:
                answered.append(await self.engine.infer(request))
            except Exception as error:  # noqa: BLE001
                answered.append(error)

        assert eager.start(asking()) is None, "it waited"
        (answer,) = answered
        if isinstance(answer, Exception):
            raise answer
        return answer


def request(*values: float, **more: object) -> InferRequest:
    return InferRequest("m", {"x": np.array(values, np.float32)}, **more)


async def test_both_a_miss_and_a_hit_are_answered_within_the_call() -> None:
    served = Served()
    first, again, other = (served.ask(request(value, id=str(value))) for value in (1, 1, 2))
    assert [one.notes for one in (first, again, other)] == [MISS, HIT, MISS]
    assert [one.outputs["x"].tolist() for one in (first, again, other)] == [[-1], [-1], [-2]]
    assert again.metadata is METADATA
    assert served.quick.runs == 2
    assert [one.batch_rows for one in served.observed] == [1, 0, 1]
    told = served.cache.statistics()
    assert (told.hits, told.misses, told.stored, told.entries) == (1, 2, 2, 2)


async def test_the_same_many_times_at_once_is_run_once() -> None:
    served = Served()
    answers = await asyncio.gather(*(served.engine.infer(request(3)) for _ in range(5)))
    assert [one.notes for one in answers] == [MISS, HIT, HIT, HIT, HIT]
    assert served.quick.runs == 1


async def test_neither_the_model_nor_a_reader_can_change_what_is_kept() -> None:
    buffer = np.ones(1, np.float32)
    served = Served(lambda x: buffer)
    served.ask(request(0))
    first = served.ask(request(1))
    first.outputs.clear()
    await asyncio.sleep(0)
    buffer += 1
    again = served.ask(request(1))
    assert again.outputs["x"].tolist() == [1]
    with pytest.raises(ValueError):
        again.outputs["x"][0] = 5
    again.outputs.clear()
    assert served.ask(request(1)).outputs["x"].tolist() == [1]


async def test_a_failure_counts_and_is_not_kept() -> None:
    served = Served()
    served.quick._run = lambda x: 1 / 0
    with pytest.raises(ModelFailed):
        served.ask(request(1))
    with pytest.raises(DeadlineExceeded):
        served.ask(request(2, deadline_s=0.0))
    served.quick._run = np.negative
    assert [served.ask(request(value)).notes for value in (1, 2)] == [MISS, MISS]
    told = served.cache.statistics()
    assert (told.misses, told.stored) == (4, 2)
    await served.model.drained()


async def test_who_asks_the_same_of_another_one_that_runs_elsewhere_waits_for_it() -> None:
    served = Served()
    times = served.model._placement.of(4)
    times.on_loop = False
    waiting = asyncio.ensure_future(served.engine.infer(request(1)))
    await asyncio.sleep(0)
    times.on_loop = True
    shared = asyncio.ensure_future(served.engine.infer(request(1)))
    other = served.ask(request(2))
    await asyncio.sleep(0)
    instance = served.model._instances[0]
    assert isinstance(instance, FakeInstance)
    instance.finish()
    assert (await shared).notes == (("x-pelton-cache", "shared"),)
    assert (await waiting).notes == other.notes == MISS
    assert served.quick.runs == 1


# -- an answer is kept once it is on its way -----------------------------------------------------


async def test_it_is_kept_in_the_next_turn_of_the_loop() -> None:
    served = Served()
    served.ask(request(1))
    assert len(served.cache.memory) == 0
    await asyncio.sleep(0)
    assert len(served.cache.memory) == served.cache.counts.stored == 1


async def test_of_many_in_one_turn_one_at_most_is_yet_to_be_kept() -> None:
    served = Served()
    for value in range(10):
        served.ask(request(value))
        assert len(served.cache.memory) == value
    assert served.cache.statistics().entries == 10
    await asyncio.sleep(0)
    assert (served.cache.counts.stored, served.quick.runs) == (10, 10)


async def test_it_is_kept_before_a_run_that_the_cache_is_not_asked_about() -> None:
    """Models may not write to what they have answered, yet one may well do so."""
    served = Served()
    served.ask(request(1))
    beside = request(2)
    beside.changeable = True
    assert served.ask(beside).notes == ()
    assert len(served.cache.memory) == served.cache.counts.stored == 1


async def test_its_time_begins_although_nobody_asks() -> None:
    served = Served()
    served.ask(request(1))
    await asyncio.sleep(0)
    served.clock.advance(Serving().cache_ttl_s)
    assert served.ask(request(1)).notes == MISS


async def test_one_for_which_there_is_no_memory_harms_nobody(monkeypatch, caplog) -> None:
    served = Served()
    served.ask(request(1))
    with monkeypatch.context() as patched:
        patched.setattr(served.cache._packing, "pack", Mock(side_effect=MemoryError))
        assert served.ask(request(2)).notes == MISS
        await asyncio.sleep(0)
    assert served.cache.statistics().entries == 0
    assert [served.ask(request(value)).notes for value in (1, 2, 1, 2)] == [MISS, MISS, HIT, HIT]
    assert not caplog.records


async def test_a_version_that_is_let_go_meanwhile_is_gone_after_the_turn() -> None:
    served = Served()
    served.ask(request(1))
    served.model.close()
    cache = weakref.ref(served.cache)
    del served
    await asyncio.sleep(0)
    gc.collect()
    assert cache() is None


def test_a_loop_may_end_before_that(caplog) -> None:
    async def asked() -> Served:
        served = Served()
        asyncio.get_running_loop().call_soon(served.ask, request(1))
        await asyncio.sleep(0)
        return served

    served = asyncio.run(asked())
    assert (served.cache.statistics().entries, caplog.records) == (1, [])


# -- bodies in memory that is used again ---------------------------------------------------------


def received(pool: BufferPool, count: int, value: float) -> InferRequest:
    """Return a request whose body was received into a block of the pool."""
    tensor = b'{"name":"x","datatype":"FP32","shape":[%d],"parameters":{"binary_data_size":%d}}'
    head = b'{"inputs":[' + tensor % (count, 4 * count) + b"]}"
    content = np.full(count, value, "<f4").tobytes()
    body = pool.take(len(head) + len(content), len(head))
    body[:] = head + content
    return decode_request(body, len(head), METADATA, Limits())[0]


@pytest.mark.parametrize("count", [1, 64, 3000, 20_000], ids=str)
async def test_nothing_of_a_body_is_held_once_it_is_answered(count: int) -> None:
    """Not by a key that is made later, nor by an answer that is copied later."""
    served, pool = Served(), BufferPool(1 << 20)
    told = []
    for value in (1.0, 2.0, 1.0, 2.0, 3.0):
        answer = served.ask(received(pool, count, value))
        assert pool.in_use_bytes == 0  # and not only once the answer is kept
        await asyncio.sleep(0)
        told.append((answer.notes, set(answer.outputs["x"].tolist())))
    assert told == [(MISS, {-1}), (MISS, {-2}), (HIT, {-1}), (HIT, {-2}), (MISS, {-3})]
    assert len(pool._idle) == 1, "all of them came in the same memory"


async def test_an_answer_that_is_the_input_itself_holds_it_no_longer_than_its_reader() -> None:
    served, pool = Served(lambda x: x), BufferPool(1 << 20)
    answer = served.ask(received(pool, 20_000, 1.0))
    await asyncio.sleep(0)
    assert pool.in_use_bytes > 0, "the answer is a view of it"
    del answer
    assert pool.in_use_bytes == 0
    assert served.ask(received(pool, 20_000, 2.0)).outputs["x"][0] == 2
    again = served.ask(received(pool, 20_000, 1.0))
    assert (again.notes, again.outputs["x"][0]) == (HIT, 1)


async def test_the_same_question_in_either_encoding_has_one_answer() -> None:
    served, pool = Served(), BufferPool(1 << 20)
    in_json = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,1]}]}'
    first = served.ask(decode_request(memoryview(in_json), None, METADATA, Limits())[0])
    assert first.notes == MISS
    for _ in range(2):
        assert served.ask(received(pool, 2, 1.0)).notes == HIT
