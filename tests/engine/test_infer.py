"""The one verb: its answers, what monitoring hears of them, and how it comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading

import numpy as np
import pytest

from engine.fake_models import VECTOR, FakeClock, FakeModel, described, model_of
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import Code, InvalidRequest, ModelFailed, NotFound, PeltonError, Unavailable
from pelton.messages import InferRequest, Observed, Timing
from pelton.specs import Serving
from pelton.testing import FakeInstance

X = np.array([1.0, 2.0], np.float32)
WAIT_S = 10.0
CLOCK = FakeClock()


def engine_of(run, observed: list[Observed] | None = None, **described_as) -> Engine:
    metadata = described(VECTOR, **described_as)
    model = model_of(FakeModel(run, metadata, concurrent=False), CLOCK)
    return Engine(Models([model]), (observed if observed is not None else []).append)


def three(inputs):
    return {"double": inputs["x"] * 2, "sum": inputs["x"].sum(), "same": inputs["x"]}


# -- answers -------------------------------------------------------------------------------------


async def test_a_request_is_answered_with_every_output() -> None:
    engine = engine_of(three, name="m", version="7")
    response = await engine.infer(InferRequest("m", {"x": X}, id="mine"))
    assert (response.model, response.version, response.id) == ("m", "7", "mine")
    assert list(response.outputs) == ["double", "sum", "same"]
    np.testing.assert_array_equal(response.outputs["double"], [2.0, 4.0])
    assert response.outputs["sum"] == 3.0
    assert response.outputs["same"] is X


@pytest.mark.parametrize("wanted", [("sum",), ("same", "double"), ("double", "sum", "same")])
async def test_only_the_wanted_outputs_are_given(wanted) -> None:
    response = await engine_of(three).infer(InferRequest("m", {"x": X}, outputs=wanted))
    assert set(response.outputs) == set(wanted)


async def test_an_unknown_output_is_refused_with_the_known_ones() -> None:
    request = InferRequest("m", {"x": X}, outputs=("sum", "summ", "z"))
    message = "model 'm' has no output 'summ'; it gives double, sum, same"
    with pytest.raises(InvalidRequest, match=f"^{re.escape(message)}$"):
        await engine_of(three).infer(request)


async def test_an_output_that_has_no_digest_is_the_models_failure() -> None:
    model = model_of(
        FakeModel(lambda inputs: {"y": {1, 2}}, concurrent=False), CLOCK, deterministic=True
    )
    with pytest.raises(ModelFailed, match="cannot be sent: a set has no digest"):
        await Engine(Models([model]), lambda observed: None).infer(InferRequest("m", {"x": X}))


async def test_the_version_of_the_request_is_looked_at() -> None:
    engine = engine_of(three, version="2")
    assert (await engine.infer(InferRequest("m", {"x": X}, version="2"))).version == "2"
    with pytest.raises(NotFound, match="version '1' of model 'm' is not served"):
        await engine.infer(InferRequest("m", {"x": X}, version="1"))


async def test_the_model_sees_checked_inputs_only() -> None:
    seen = []
    engine = engine_of(lambda inputs: seen.append(inputs["x"]) or {})
    await engine.infer(InferRequest("m", {"x": X.astype(">f4")}))
    with pytest.raises(InvalidRequest, match="is FP64"):
        await engine.infer(InferRequest("m", {"x": X.astype(np.float64)}))
    assert [value.dtype for value in seen] == [np.dtype("<f4")]


def test_it_tells_what_it_serves() -> None:
    engine = engine_of(three, name="robot", version="4")
    assert engine.names() == ["robot"]
    assert engine.metadata("robot").version == "4"
    assert engine.metadata("robot", "4").name == "robot"
    with pytest.raises(NotFound):
        engine.metadata("robot", "5")
    with pytest.raises(NotFound):
        engine.metadata("cat")


async def test_a_model_without_a_living_instance_is_not_ready_but_the_server_is() -> None:
    dead, well = FakeInstance(alive=False), FakeInstance()
    models = [
        Model(described(VECTOR, name=name), instances, Serving(), CLOCK)
        for name, instances in {"a": [dead], "b": [dead, well]}.items()
    ]
    engine = Engine(Models(models), lambda observed: None)
    assert (engine.model_ready("a"), engine.model_ready("b", "1")) == (False, True)
    assert engine.ready
    dead.revive()
    assert engine.model_ready("a")
    with pytest.raises(NotFound):
        engine.model_ready("b", "2")


# -- what monitoring hears -----------------------------------------------------------------------


def failing(inputs):
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("run", "request_", "code"),
    [
        pytest.param(three, InferRequest("m", {"x": X}), None, id="answered"),
        pytest.param(three, InferRequest("cat", {"x": X}), Code.NOT_FOUND, id="model"),
        pytest.param(three, InferRequest("m", {"x": X}, "9"), Code.NOT_FOUND, id="version"),
        pytest.param(three, InferRequest("m", {}), Code.INVALID_INPUT, id="input"),
        pytest.param(
            three, InferRequest("m", {"x": X}, outputs=("z",)), Code.INVALID_INPUT, id="output"
        ),
        pytest.param(failing, InferRequest("m", {"x": X}), Code.MODEL_FAILED, id="raised"),
    ],
)
async def test_each_request_is_observed_once(run, request_, code) -> None:
    observed: list[Observed] = []
    engine = engine_of(run, observed)
    with contextlib.suppress(PeltonError):
        await engine.infer(request_)
    version = 0 if code is Code.NOT_FOUND else 1
    rows = int(code is None)
    assert observed == [Observed(request_.model, code, Timing(), rows, version)]


async def test_the_time_of_an_answer_is_observed() -> None:
    observed: list[Observed] = []

    def run(inputs):
        CLOCK.now_s += 0.5
        return {}

    response = await engine_of(run, observed).infer(InferRequest("m", {"x": X}))
    assert observed == [Observed("m", None, Timing(compute_s=0.5), 1, 1)]
    assert response.timing == Timing(compute_s=0.5)


def test_a_request_that_failed_before_it_came_here_is_observed_too() -> None:
    observed: list[Observed] = []
    engine_of(three, observed).refused("m", Code.MALFORMED_REQUEST)
    assert observed == [Observed("m", Code.MALFORMED_REQUEST, Timing())]


# -- the end -------------------------------------------------------------------------------------


class HeldUp:
    """A run that goes on when the test says so; `entered` is set when it has begun."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._may_go = threading.Event()

    def __call__(self, inputs):
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._may_go.wait(WAIT_S)
        return dict(inputs)

    def release(self) -> None:
        self._may_go.set()


async def test_draining_waits_for_what_runs_and_refuses_what_comes() -> None:
    run = HeldUp()
    observed: list[Observed] = []
    engine = engine_of(run, observed)
    assert engine.ready
    first = asyncio.create_task(engine.infer(InferRequest("m", {"x": X})))
    second = asyncio.create_task(engine.infer(InferRequest("m", {"x": X + 1})))
    await run.entered.wait()
    draining = asyncio.create_task(engine.drain(WAIT_S))
    await asyncio.sleep(0)
    assert not engine.ready
    with pytest.raises(Unavailable, match="shutting down") as caught:
        await engine.infer(InferRequest("m", {"x": X}))
    assert caught.value.retry_after_s == 1.0
    assert not draining.done()
    run.release()
    np.testing.assert_array_equal((await first).outputs["x"], X)
    np.testing.assert_array_equal((await second).outputs["x"], X + 1)
    assert await draining == 0
    assert [each.error for each in observed if each.error is None] == [None, None]


async def test_draining_counts_what_is_left_when_the_grace_is_over() -> None:
    run = HeldUp()
    engine = engine_of(run)
    requests = [asyncio.create_task(engine.infer(InferRequest("m", {"x": X}))) for _ in range(3)]
    await run.entered.wait()
    assert await engine.drain(0.001) == 3
    run.release()
    await asyncio.gather(*requests)
    assert await engine.drain(0.0) == 0


async def test_an_idle_engine_is_drained_at_once() -> None:
    engine = engine_of(three)
    await engine.infer(InferRequest("m", {"x": X}))
    assert await engine.drain(0.0) == 0
    assert not engine.ready


@pytest.mark.parametrize(
    "request_", [InferRequest("cat", {}), InferRequest("m", {}), InferRequest("m", {"x": X})]
)
async def test_failed_requests_do_not_count_as_running(request_) -> None:
    engine = engine_of(failing)
    with pytest.raises(PeltonError):
        await engine.infer(request_)
    assert await engine.drain(0.0) == 0


async def test_a_request_whose_client_left_does_not_hold_up_the_end() -> None:
    run = HeldUp()
    engine = engine_of(run)
    request = asyncio.create_task(engine.infer(InferRequest("m", {"x": X})))
    await run.entered.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await engine.drain(0.0) == 0
    run.release()
    await asyncio.to_thread(engine.models.close)  # its thread ends before the loop does
