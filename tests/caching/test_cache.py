"""The whole way of a question through the cache, with a model that counts its runs."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from engine.virtual_time import in_virtual_time, settle
from pelton.caching.cache import How, ResultCache, cacheable
from pelton.caching.entry import Entry, entry_of
from pelton.caching.key import ON_LOOP_BYTES
from pelton.caching.memory import MemoryStore
from pelton.engine import eager
from pelton.errors import DeadlineExceeded, ModelFailed
from pelton.messages import InferRequest, InferResponse, Timing
from pelton.specs import ModelMetadata
from pelton.testing.fakes import FakeClock

METADATA = ModelMetadata("m", "3", "test", (), ())
X = np.arange(4, dtype="<f4")


class FarFake:
    """A far store as it is seen from here."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[Entry, float]] = {}
        self.asked = 0

    async def get(self, key: bytes) -> tuple[Entry, float] | None:
        self.asked += 1
        await asyncio.sleep(0)
        return self.kept.get(key)

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        self.kept[key] = (entry, ttl_s)


class Setup:
    """A cache, and a model that doubles its input."""

    def __init__(self, *, max_bytes=1_000_000, far=None, identity="load 1", timeout_s=math.inf):
        self.clock = FakeClock(1000.0)
        self.runs = 0
        self.buffer = np.zeros(4, "<f4")
        self.cache = ResultCache(
            METADATA,
            identity,
            MemoryStore(max_bytes, self.clock),
            60.0,
            self.clock,
            timeout_s,
            far,
        )

    async def ask(
        self, x=X, tenant="t", parameters=None, compute=None, **request
    ) -> tuple[InferResponse, How]:
        inputs = {"x": x}

        async def run() -> InferResponse:
            self.runs += 1
            y = x * 2 if isinstance(x, np.ndarray) else x
            return InferResponse("m", "3", {"y": y}, asked.id, Timing(compute_s=1.0), "sha256:d")

        asked = InferRequest("m", inputs, tenant=tenant, **request)
        return await self.cache.answer(asked, inputs, parameters or {}, compute or run)


async def test_the_second_time_it_is_not_computed() -> None:
    setup = Setup()
    first, how = await setup.ask(id="one")
    assert how == How.MISS
    second, how = await setup.ask(X.copy(), id="two")
    assert how == How.HIT
    assert setup.runs == 1
    assert second.outputs["y"].tolist() == first.outputs["y"].tolist() == [0, 2, 4, 6]
    assert (second.model, second.version, second.id, second.digest) == ("m", "3", "two", "sha256:d")
    assert second.timing == Timing()
    counts = setup.cache.counts
    assert (counts.hits, counts.misses, counts.stored, counts.shared) == (1, 1, 1, 0)
    assert setup.cache.memory.bytes > 16


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "u"},
        {"x": X.view("<i4")},
        {"x": X.reshape(2, 2)},
        {"x": -X},
        {"outputs": ("y",)},
        {"parameters": {"p": 1}},
    ],
)
async def test_a_question_that_differs_is_computed(other) -> None:
    setup = Setup()
    await setup.ask()
    assert (await setup.ask(**other))[1] == How.MISS
    assert setup.runs == 2


async def test_what_another_load_computed_is_not_taken_from_a_far_store() -> None:
    far = FarFake()
    await Setup(far=far, identity="load 1").ask()
    assert (await Setup(far=far, identity="load 2").ask())[1] == How.MISS
    assert (await Setup(far=far, identity="load 1").ask())[1] == How.HIT


async def test_id_priority_and_deadline_do_not_matter() -> None:
    setup = Setup()
    await setup.ask(id="one", priority=1, deadline_s=2000.0)
    assert (await setup.ask(id="two", priority=2, deadline_s=3000.0))[1] == How.HIT


async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    setup = Setup()
    await setup.ask()
    setup.clock.advance(60.0)
    assert (await setup.ask())[1] == How.MISS


async def test_neither_the_model_nor_a_reader_can_change_what_is_kept() -> None:
    setup = Setup()

    async def run() -> InferResponse:
        return InferResponse("m", "3", {"y": setup.buffer})

    first, _ = await setup.ask(compute=run)
    setup.buffer += 9
    first.outputs.clear()
    second, how = await setup.ask()
    assert how == How.HIT
    assert second.outputs["y"].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError):
        second.outputs["y"][0] = 1


def test_a_hit_waits_for_nothing() -> None:
    """It is answered without an event loop, in the first step of its coroutine."""
    setup = Setup()
    asyncio.run(setup.ask())
    with pytest.raises(StopIteration) as answered:
        setup.ask().send(None)
    assert answered.value.value[1] == How.HIT


async def test_large_inputs_are_hashed_in_a_thread_to_the_same_key() -> None:
    setup = Setup(max_bytes=64_000_000)
    large = np.zeros(ON_LOOP_BYTES, "<f4")
    coroutine = setup.ask(large)
    rest = eager.start(_finish(coroutine))
    assert rest is not None, "it waits for the thread"
    await rest
    assert (await setup.ask(large))[1] == How.HIT
    assert setup.runs == 1


async def _finish(coroutine) -> None:
    await coroutine


async def test_an_answer_too_large_to_keep_is_given_and_computed_again() -> None:
    setup = Setup(max_bytes=8 * 1000)
    for _ in range(2):
        assert (await setup.ask(np.zeros(1000)))[1] == How.MISS
    assert setup.runs == 2
    assert setup.cache.counts.too_large == 2
    assert setup.cache.memory.bytes == 0


@pytest.mark.parametrize("x", [object(), {1, 2}])
async def test_a_question_without_a_key_is_computed(x) -> None:
    setup = Setup()
    for _ in range(2):
        assert (await setup.ask(x))[1] == How.MISS
    assert setup.runs == 2
    assert setup.cache.counts.uncacheable == 2


async def test_an_answer_that_cannot_be_copied_is_not_kept() -> None:
    setup = Setup()

    async def run() -> InferResponse:
        setup.runs += 1
        return InferResponse("m", "3", {"y": {1, 2}})

    for _ in range(2):
        assert (await setup.ask(compute=run))[1] == How.MISS
    assert setup.runs == 2


async def test_a_failure_is_not_kept() -> None:
    setup = Setup()

    async def fails() -> InferResponse:
        raise ModelFailed("no")

    with pytest.raises(ModelFailed):
        await setup.ask(compute=fails)
    assert (await setup.ask())[1] == How.MISS


class Held:
    """Computations that wait until the test lets them go."""

    def __init__(self, outputs) -> None:
        self.gate = asyncio.Event()
        self.runs = 0
        self.outputs = outputs

    async def __call__(self) -> InferResponse:
        self.runs += 1
        await self.gate.wait()
        return InferResponse("m", "3", dict(self.outputs), "first", Timing(compute_s=1.0))


@in_virtual_time
async def test_the_same_at_once_is_computed_once() -> None:
    setup, held = Setup(), Held({"y": np.zeros(3)})
    asking = [asyncio.create_task(setup.ask(compute=held, id=name)) for name in ("a", "b", "c")]
    await settle()
    setup.clock.advance(3.0)
    held.gate.set()
    answers = await asyncio.gather(*asking)
    assert held.runs == 1
    assert [response.timing.queue_s for response, _ in answers] == [0.0, 3.0, 3.0]
    assert [how for _, how in answers] == [How.MISS, How.SHARED, How.SHARED]
    assert [response.id for response, _ in answers] == ["first", "b", "c"]
    counts = setup.cache.counts
    assert (counts.hits, counts.misses, counts.shared) == (0, 1, 2)
    assert answers[1][0].outputs is not answers[2][0].outputs
    assert answers[1][0].outputs["y"] is answers[2][0].outputs["y"]
    assert answers[0][0].outputs["y"] is held.outputs["y"], "the first has the model's own answer"


@in_virtual_time
async def test_an_answer_too_large_to_keep_is_shared_all_the_same() -> None:
    large = np.zeros(10_000)
    setup, held = Setup(max_bytes=8 * 1000), Held({"y": large})
    asking = [asyncio.create_task(setup.ask(compute=held)) for _ in range(2)]
    await settle()
    held.gate.set()
    (_, _), (shared, how) = await asyncio.gather(*asking)
    large += 1
    assert (how, held.runs) == (How.SHARED, 1)
    assert not shared.outputs["y"].any(), "it is a copy"


@in_virtual_time
async def test_an_answer_that_cannot_be_copied_is_not_shared() -> None:
    setup, held = Setup(), Held({"y": object()})
    asking = [asyncio.create_task(setup.ask(compute=held)) for _ in range(3)]
    await settle()
    held.gate.set()
    assert [how for _, how in await asyncio.gather(*asking)] == [How.MISS] * 3
    assert held.runs == 3
    assert setup.cache.counts.misses == 3


@in_virtual_time
async def test_when_the_first_leaves_it_is_computed_once_more_and_no_oftener() -> None:
    setup, held = Setup(), Held({"y": X})
    first = asyncio.create_task(setup.ask(compute=held))
    await settle()
    others = [asyncio.create_task(setup.ask()) for _ in range(3)]  # their model does not wait
    await settle()
    first.cancel()
    answers = await asyncio.gather(*others)
    assert (held.runs, setup.runs) == (1, 1)
    assert [how for _, how in answers] == [How.MISS, How.HIT, How.HIT]


@in_virtual_time
async def test_tenants_do_not_share_what_is_under_way() -> None:
    setup, held = Setup(), Held({"y": X})
    asking = [asyncio.create_task(setup.ask(compute=held, tenant=name)) for name in "ab"]
    await settle()
    assert held.runs == 2
    held.gate.set()
    assert [how for _, how in await asyncio.gather(*asking)] == [How.MISS] * 2


@pytest.mark.parametrize("own_s", [5.0, 50.0])
@in_virtual_time
async def test_who_waits_does_so_until_its_deadline_or_that_of_the_server(own_s) -> None:
    loop = asyncio.get_running_loop()
    setup, held = Setup(timeout_s=20.0), Held({"y": X})
    setup.cache = ResultCache(
        METADATA, "", MemoryStore(1000, loop.time), 60.0, loop.time, timeout_s=20.0
    )
    first = asyncio.create_task(setup.ask(compute=held))
    await settle()
    asked_s = loop.time()
    with pytest.raises(DeadlineExceeded):
        await setup.ask(compute=held, deadline_s=asked_s + own_s)
    assert loop.time() - asked_s == pytest.approx(min(own_s, 20.0))
    held.gate.set()
    await first
    assert held.runs == 1


async def test_what_is_far_is_brought_near_for_the_time_that_is_left() -> None:
    far = FarFake()
    await Setup(far=far).ask()
    (key,) = far.kept
    assert far.kept[key][1] == 60.0
    far.kept[key] = (entry_of({"y": np.ones(2)}, "sha256:far"), 10.0)
    setup = Setup(far=far)
    for _ in range(2):
        response, how = await setup.ask(id="i")
        assert (how, response.id, response.digest) == (How.HIT, "i", "sha256:far")
        assert response.outputs["y"].tolist() == [1, 1]
    assert (setup.runs, far.asked) == (0, 2)
    setup.clock.advance(10.0)
    far.kept.clear()
    assert (await setup.ask())[1] == How.MISS


@in_virtual_time
async def test_one_asks_the_far_store_and_the_others_share() -> None:
    far = FarFake()
    await Setup(far=far).ask()
    setup = Setup(far=far)
    asking = [asyncio.create_task(setup.ask()) for _ in range(3)]
    assert [how for _, how in await asyncio.gather(*asking)] == [How.HIT, How.SHARED, How.SHARED]
    assert (far.asked, setup.runs) == (2, 0)


@pytest.mark.parametrize(
    ("takes_objects", "deterministic", "forced", "may"),
    [
        (False, False, False, True),
        (False, True, False, True),
        (True, False, False, False),
        (True, True, False, True),
        (True, False, True, True),
    ],
)
def test_object_models_are_cached_only_if_deterministic_or_forced(
    takes_objects, deterministic, forced, may
) -> None:
    metadata = ModelMetadata("m", "1", "python", (), (), takes_objects=takes_objects)
    assert cacheable(metadata, deterministic, forced) is may
