"""One model's runs: where they happen, in what order, and what becomes of what they raise."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from engine.fake_models import VECTOR, FakeClock, FakeModel, described, model_of
from engine.fake_models import run as ask
from engine.virtual_time import in_virtual_time, settle
from pelton.engine.model import REMEMBERED_FORMS, Model, ModelStatistics
from pelton.engine.placement import SAMPLES
from pelton.engine.thread_instance import thread_instances
from pelton.errors import Code, InvalidRequest, ModelFailed, PeltonError
from pelton.messages import InferRequest, Timing
from pelton.runtimes.contract import Stop
from pelton.runtimes.warm_up import MOST_ELEMENTS
from pelton.specs import Batching, Serving, TensorSpec
from pelton.testing import FakeInstance

ONE = {"x": np.ones(4, np.float32)}
WAIT_S = 10.0
"""For threads that have to meet; only a failing test waits so long."""


class Timed:
    """A run that takes as long as it is told, on a clock of its own, and notes its thread."""

    def __init__(self, seconds: float) -> None:
        self.clock = FakeClock()
        self.seconds = seconds
        self.on_loop: list[bool] = []

    def __call__(self, inputs):
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        self.clock.now_s += self.seconds
        return dict(inputs)


# -- where ---------------------------------------------------------------------------------------


async def test_user_code_runs_in_a_thread_however_quick_it_is() -> None:
    run = Timed(1e-6)
    model = model_of(FakeModel(run), run.clock)
    for _ in range(3 * SAMPLES):
        await ask(model, ONE)
    assert not any(run.on_loop)


async def test_a_quick_model_moves_to_the_loop_once_it_is_known_to_be_fast() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock)
    for _ in range(2 * SAMPLES):
        await ask(model, ONE)
    assert run.on_loop == [False] * SAMPLES + [True] * SAMPLES


async def test_a_model_that_became_slow_goes_back_to_threads() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock)
    for _ in range(SAMPLES):
        await ask(model, ONE)
    run.seconds, run.on_loop = 5e-3, []
    for _ in range(SAMPLES):
        await ask(model, ONE)
    assert run.on_loop == [True] * 3 + [False] * 2


async def test_a_deterministic_model_never_runs_on_the_loop() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock, instances=1, deterministic=True)
    model.warm_up()
    for _ in range(2 * SAMPLES):
        await ask(model, ONE)
    assert run.on_loop == [False] * (2 * SAMPLES)


@in_virtual_time
async def test_nobody_overtakes_those_who_wait_by_way_of_the_loop() -> None:
    seen, instance = [], FakeInstance()
    quick = FakeModel(lambda inputs: seen.append(inputs) or {}, quick=True)
    model = Model(quick.metadata, [instance], Serving(), FakeClock(), quick)
    model.warm_up()
    big, one = {"x": np.ones(4096, np.float32)}, {"x": np.ones(1, np.float32)}
    seen.clear()
    running, waiting = (asyncio.ensure_future(ask(model, big)) for _ in range(2))
    await settle()
    behind = asyncio.ensure_future(ask(model, one))
    await settle()
    assert (seen, model.statistics().queued_requests) == ([], 2)
    for _ in range(3):
        instance.finish({})
        await settle()
    await asyncio.gather(running, waiting, behind)
    assert [run.inputs["x"].size for run in instance.runs] == [4096, 4096, 1]
    await ask(model, one)
    assert len(seen) == 1


async def test_a_batch_tells_nothing_of_how_quick_one_request_is() -> None:
    run = Timed(50e-6)
    sharing = Batching(max_batch_rows=64)
    model = model_of(FakeModel(run, quick=True), run.clock, instances=1, batching=sharing)
    await asyncio.gather(*[ask(model, ONE) for _ in range(2 * SAMPLES)])
    await ask(model, ONE)
    assert run.on_loop == [False, False, False]


async def test_runs_on_the_loop_and_on_instances_are_counted_together() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock, instances=2)
    for _ in range(2 * SAMPLES):
        await ask(model, ONE)
    assert model.statistics() == ModelStatistics(
        queued_requests=0,
        queued_rows=0,
        queued_bytes=0,
        running=0,
        runs=2 * SAMPLES,
        rows=2 * SAMPLES,
        mean_batch_rows=1.0,
        expired=0,
        cancelled=0,
        refused_full=0,
        instances=2,
        alive=2,
        restarts=0,
        worker_bytes=0,
    )


async def test_rows_are_counted_on_the_loop_too_where_runs_are_shared() -> None:
    run = Timed(50e-6)
    sharing = Batching(max_batch_rows=64)
    model = model_of(FakeModel(run, quick=True), run.clock, instances=1, batching=sharing)
    request = InferRequest("m", {"x": np.ones(4, np.float32)})
    for _ in range(SAMPLES):
        await model.answer(request)
    answer, _ = await model.answer(request)
    assert run.on_loop == [False] * SAMPLES + [True]
    assert answer.batch_rows == 4
    assert (model.statistics().runs, model.statistics().mean_batch_rows) == (SAMPLES + 1, 4.0)


async def test_big_inputs_are_measured_for_themselves() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock)
    for _ in range(SAMPLES + 1):
        await ask(model, ONE)
    await ask(model, {"x": np.ones(4096, np.float32)})
    assert run.on_loop[-2:] == [True, False]


@pytest.mark.parametrize("quick", [False, True])
async def test_the_time_of_a_run_is_told(quick: bool) -> None:
    run = Timed(0.25)
    outputs, timing = await ask(model_of(FakeModel(run, quick=quick), run.clock), ONE)
    assert timing == Timing(queue_s=0.0, compute_s=0.25)
    assert outputs["x"] is ONE["x"]


async def test_waiting_for_the_model_counts_as_queueing() -> None:
    clock, may_go, entered = FakeClock(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def run(inputs):
        loop.call_soon_threadsafe(entered.set)
        assert may_go.wait(WAIT_S)
        return {}

    model = model_of(FakeModel(run, concurrent=False), clock)
    first = asyncio.create_task(ask(model, ONE))
    await entered.wait()
    second = asyncio.create_task(ask(model, ONE))
    await asyncio.sleep(0)  # it is in the queue now
    clock.now_s += 3.0
    may_go.set()
    assert (await first)[1] == Timing(queue_s=0.0, compute_s=3.0)
    assert (await second)[1] == Timing(queue_s=3.0, compute_s=0.0)


# -- in what order -------------------------------------------------------------------------------


async def test_a_model_that_is_not_concurrent_runs_one_request_at_a_time_in_order() -> None:
    may_go, seen, threads, inside = threading.Event(), [], set(), []

    def run(inputs):
        assert may_go.wait(WAIT_S)
        inside.append(inputs["x"])
        threads.add(threading.get_ident())
        seen.append((inputs["x"], list(inside)))
        inside.remove(inputs["x"])
        return {"y": inputs["x"]}

    objects = described(takes_objects=True)
    model = model_of(FakeModel(run, objects, concurrent=False), FakeClock())
    runs = [asyncio.create_task(ask(model, {"x": index})) for index in range(50)]
    await asyncio.sleep(0)
    may_go.set()
    answers = await asyncio.gather(*runs)
    assert [outputs["y"] for outputs, _ in answers] == list(range(50))
    assert seen == [(index, [index]) for index in range(50)]
    assert len(threads) == 1


async def test_a_quick_model_that_is_not_concurrent_is_never_entered_twice() -> None:
    entered, may_go = asyncio.Event(), threading.Event()
    loop, inside, most = asyncio.get_running_loop(), [], []
    clock = FakeClock()

    def run(inputs):
        inside.append(1)
        most.append(len(inside))
        if inputs["x"].size > 4:
            loop.call_soon_threadsafe(entered.set)
            may_go.wait(WAIT_S)
        inside.pop()
        return {}

    model = model_of(FakeModel(run, concurrent=False, quick=True), clock)
    for _ in range(SAMPLES + 1):
        await ask(model, ONE)  # small inputs are known to be quick now
    slow = asyncio.create_task(ask(model, {"x": np.ones(4096, np.float32)}))
    await entered.wait()
    quick = asyncio.create_task(ask(model, ONE))
    await asyncio.sleep(0)
    may_go.set()
    await asyncio.gather(slow, quick)
    assert max(most) == 1


async def test_a_concurrent_model_runs_requests_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=WAIT_S)

    def run(inputs):
        both.wait()  # breaks, and fails the test, unless two are inside
        return {"y": inputs["x"]}

    model = model_of(FakeModel(run, described(takes_objects=True), concurrent=True), FakeClock())
    answers = await asyncio.gather(ask(model, {"x": 1}), ask(model, {"x": 2}))
    assert [outputs["y"] for outputs, _ in answers] == [1, 2]


# -- what it raises ------------------------------------------------------------------------------


class OfTheModel(BaseException):
    """What a library might end its own threads with."""


def raising(error: BaseException):
    def run(inputs):
        raise error

    return run


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret /path/of/the/server"),
        MemoryError(),
        StopIteration(),
        StopAsyncIteration(),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        OfTheModel(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_model_raises_is_its_own_failure(error, on_loop: bool) -> None:
    run = Timed(50e-6)
    loaded = FakeModel(run, quick=on_loop)
    model = model_of(loaded, run.clock)
    for _ in range(SAMPLES):
        await ask(model, ONE)
    loaded.run = raising(error)
    with pytest.raises(ModelFailed) as caught:
        await ask(model, ONE)
    assert caught.value.code is Code.MODEL_FAILED
    assert caught.value.__cause__ is error
    assert caught.value.message == (
        f"model 'm' raised {type(error).__name__}; the server's log tells more "
        "under this request's id"
    )
    loaded.run = run
    outputs, _ = await ask(model, ONE)
    assert outputs["x"] is ONE["x"]
    assert run.on_loop[-1] is on_loop


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("no face in the picture"), PeltonError("quota", Code.UNIMPLEMENTED)],
    ids=["InvalidRequest", "PeltonError"],
)
@pytest.mark.parametrize("quick", [False, True])
async def test_what_the_model_says_to_the_caller_passes_through(error, quick: bool) -> None:
    with pytest.raises(PeltonError) as caught:
        await ask(model_of(FakeModel(raising(error), quick=quick), FakeClock()), ONE)
    assert caught.value is error


# -- warming up ----------------------------------------------------------------------------------


async def test_a_warmed_up_model_runs_its_first_request_on_the_loop() -> None:
    run = Timed(50e-6)
    model = model_of(FakeModel(run, quick=True), run.clock)
    model.warm_up()
    run.on_loop = []
    await ask(model, {"x": np.ones(1, np.float32)})
    assert run.on_loop == [True]


def test_warming_up_runs_on_zeros_of_the_smallest_shape() -> None:
    seen = []
    specs = (TensorSpec("a", "FP16", (-1, 3)), TensorSpec("b", "BF16", ()))
    model = FakeModel(lambda inputs: seen.append(inputs) or {}, described(*specs), quick=True)
    model_of(model, FakeClock()).warm_up()
    assert len(seen) == SAMPLES + 1
    for inputs in seen:
        np.testing.assert_array_equal(inputs["a"], np.zeros((1, 3), np.float16), strict=True)
        np.testing.assert_array_equal(inputs["b"], np.zeros((), np.float32), strict=True)


@pytest.mark.parametrize(
    ("specs", "quick"),
    [
        pytest.param((VECTOR,), False, id="user code"),
        pytest.param((), True, id="no declared inputs"),
        pytest.param((VECTOR, TensorSpec("t", "BYTES", (1,))), True, id="text"),
        pytest.param((TensorSpec("x", "UINT8", (MOST_ELEMENTS + 1,)),), True, id="big"),
        pytest.param((TensorSpec("x", "UINT8", (2**40, 2**40)),), True, id="overflowing"),
    ],
)
def test_some_models_are_not_warmed_up(specs, quick: bool) -> None:
    seen = []
    model = FakeModel(lambda inputs: seen.append(inputs) or {}, described(*specs), quick=quick)
    model_of(model, FakeClock()).warm_up()
    assert seen == []


@pytest.mark.parametrize("error", [InvalidRequest("too small"), ValueError("odd shape")])
def test_a_refused_warm_up_is_no_harm(error) -> None:
    runs = []

    def run(inputs):
        runs.append(1)
        raise error

    model_of(FakeModel(run, quick=True), FakeClock()).warm_up()
    assert runs == [1]


def test_ctrl_c_while_warming_up_is_the_persons_and_not_the_models() -> None:
    with pytest.raises(KeyboardInterrupt):
        model_of(FakeModel(raising(KeyboardInterrupt()), quick=True), FakeClock()).warm_up()


# -- closing -------------------------------------------------------------------------------------


async def test_closing_waits_for_the_run_that_is_under_way() -> None:
    entered, closed = threading.Event(), threading.Event()
    closed_during_run: list[bool] = []

    def run(inputs):
        entered.set()
        closed_during_run.append(closed.wait(0.1))
        return {}

    class Loaded(FakeModel):
        def close(self) -> None:
            closed.set()

    model = model_of(Loaded(run, concurrent=False), FakeClock())
    running = asyncio.create_task(ask(model, ONE))
    assert await asyncio.to_thread(entered.wait, WAIT_S)
    await asyncio.gather(running, asyncio.to_thread(model.close))
    assert closed.is_set()
    assert closed_during_run == [False]


# -- forms ---------------------------------------------------------------------------------------


def of_form(form: object, value: Any) -> InferRequest:
    return InferRequest("m", {"x": value}, form=form)


async def test_inputs_of_a_form_that_fitted_are_not_looked_at_again(monkeypatch) -> None:
    looked = []
    monkeypatch.setattr(
        "pelton.engine.model.checked_inputs", lambda inputs, _: looked.append(inputs) or inputs
    )
    model = model_of(FakeModel(), FakeClock())
    form, other = object(), object()
    for asked in (form, form, form, other, form, None, None):
        await model.answer(of_form(asked, ONE["x"]))
    assert len(looked) == 4  # the first of each form, and each without one


async def test_inputs_of_a_form_that_does_not_fit_are_refused_each_time() -> None:
    model, form = model_of(FakeModel(), FakeClock()), object()
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="INT64"):
            await model.answer(of_form(form, np.ones(4, np.int64)))


async def test_inputs_that_had_to_be_changed_are_changed_each_time() -> None:
    seen: list[np.ndarray] = []
    model = model_of(FakeModel(lambda inputs: seen.append(inputs["x"]) or {}), FakeClock())
    form = object()
    for _ in range(3):
        await model.answer(of_form(form, np.array([1, 2], ">f4")))
    assert [(one.dtype.str, one.tolist()) for one in seen] == [("<f4", [1, 2])] * 3


async def test_each_model_checks_a_form_for_itself() -> None:
    form = object()
    await model_of(FakeModel(), FakeClock()).answer(of_form(form, ONE["x"]))
    whole = TensorSpec("x", "INT8", (-1,))
    with pytest.raises(InvalidRequest, match="FP32"):
        await model_of(FakeModel(metadata=described(whole)), FakeClock()).answer(
            of_form(form, ONE["x"])
        )


async def test_forms_without_end_do_not_fill_the_memory() -> None:
    model = model_of(FakeModel(), FakeClock())
    first = weakref.ref(form := Form())
    await model.answer(of_form(form, ONE["x"]))
    del form
    for _ in range(2 * REMEMBERED_FORMS):
        await model.answer(of_form(Form(), ONE["x"]))
    assert first() is None


class Form:
    """A token that can be watched."""


class Stoppable(FakeModel):
    """Runs until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.running = threading.Event()

    def run_until(self, inputs: Mapping[str, Any], stop: Stop) -> dict[str, Any]:
        stopped = threading.Event()
        stop.on_ask(stopped.set)
        self.running.set()
        assert stopped.wait(WAIT_S)
        raise RuntimeError("told to stop")


def test_a_warm_up_that_nobody_waits_for_ends() -> None:
    loaded, stop = Stoppable(), Stop()
    model = Model(loaded.metadata, [FakeInstance()], Serving(), FakeClock(), loaded)
    warming = threading.Thread(target=model.warm_up, args=(stop,))
    warming.start()
    assert loaded.running.wait(WAIT_S)
    stop.ask()
    warming.join(WAIT_S)
    assert not warming.is_alive()


async def test_a_model_that_is_not_quick_is_warmed_up_and_stays_off_the_loop() -> None:
    run = Timed(50e-6)
    loaded = FakeModel(run)
    model = Model(loaded.metadata, thread_instances(loaded, 1), Serving(), run.clock, loaded)
    model.warm_up()
    assert len(run.on_loop) == SAMPLES + 1
    run.on_loop = []
    await ask(model, {"x": np.ones(1, np.float32)})
    assert run.on_loop == [False]
    model.close()


@in_virtual_time
async def test_a_death_of_a_worker_is_told_and_a_revival_is_not() -> None:
    instances, deaths = [FakeInstance(), FakeInstance()], []
    model = Model(described(VECTOR), instances, Serving(), FakeClock())
    model.on_death(lambda: deaths.append(1))
    instances[1].die()
    assert deaths == [1]
    instances[1].revive()
    assert deaths == [1]
