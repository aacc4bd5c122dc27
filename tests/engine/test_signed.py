"""Signed objects on the engine's way: past the lane, and shown to nobody else."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.two_versions import Versions, kept
from pelton.engine.infer import Engine
from pelton.engine.shadowing import Shadows, make_chosen
from pelton.engine.signed import SignedRuns
from pelton.errors import Code, InvalidRequest, ModelFailed, Unavailable
from pelton.messages import InferRequest, InferResponse, Observed, Timing
from pelton.records import Exposure
from pelton.runtimes.contract import Stop

PARTS = (memoryview(b"pickle"), memoryview(b"buffer"))


class FakeWorkers:
    """Answers with what `run` returns."""

    def __init__(self, run: Callable[[Stop], dict[str, Any]] = lambda stop: {"y": 1}) -> None:
        self._run = run
        self.asked: list[tuple[Sequence[memoryview], float, str]] = []
        self.closed = 0

    def run(
        self, parts: Sequence[memoryview], deadline_s: float, log_id: str, stop: Stop | None
    ) -> tuple[float, dict[str, Any]]:
        assert stop is not None
        self.asked.append((parts, deadline_s, log_id))
        return 0.25, self._run(stop)

    def close(self) -> None:
        self.closed += 1


def now_s() -> float:
    return 100.0


def take(served: Versions, workers: FakeWorkers, most_at_once: int = 2) -> None:
    served.at[1].signed = SignedRuns(workers, most_at_once, 30.0, now_s)


def ask(served: Versions, **more: Any) -> asyncio.Future[InferResponse]:
    asked = InferRequest("m", {}, signed=PARTS, log_id="r-1", **more)
    return asyncio.ensure_future(served.engine.infer(asked))


async def test_a_signed_object_goes_to_the_workers_of_the_version_and_nowhere_else() -> None:
    route = {"policy": "pinned", "version": 1, "shadow": {"version": 2, "share": 1.0}}
    served = Versions(1, 2, route=route, chosen=lambda *of: chosen(*of))
    shadows = Shadows(served.models, now_s, lambda seen: None)
    chosen = make_chosen(shadows, None, now_s)
    cache, workers = kept(served.at[1]), FakeWorkers()
    take(served, workers)
    watched: list[Any] = []
    served.at[1].watch = lambda *seen: watched.append(seen)
    for _ in range(2):
        response = await ask(served)
        assert (response.model, response.version, response.outputs) == ("m", "1", {"y": 1})
        assert response.timing == Timing(compute_s=0.25)
        assert response.notes == ()
    assert workers.asked == [(PARTS, 130.0, "r-1")] * 2
    assert served.observed == [Observed("m", None, Timing(compute_s=0.25), 0, 1)] * 2
    await shadows.settled()
    assert [len(instance.runs) for instance in served.runs.values()] == [0, 0]
    assert (cache.counts.hits, cache.counts.misses, watched) == (0, 0, [])
    assert (shadows.counts.answered, shadows.counts.shed) == (0, 0)


async def test_who_is_given_which_version_is_on_record_for_signed_objects_too() -> None:
    split = {"policy": "split", "arms": [{"version": 1, "weight": 1}], "salt": "s"}
    put: list[Exposure] = []
    served = Versions(1, route=split)
    shadows = Shadows(served.models, now_s, lambda seen: None)
    chosen = make_chosen(shadows, put.append, now_s)
    served.engine = Engine(served.models, served.observed.append, chosen)
    take(served, FakeWorkers())
    await ask(served, key="robot")
    assert [(exposure.unit, exposure.arm) for exposure in put] == [("robot", "1")]


@pytest.mark.parametrize(("given_s", "deadline_s"), [(110.0, 110.0), (math.inf, 130.0)])
async def test_no_request_takes_longer_than_it_or_the_model_allows(given_s, deadline_s) -> None:
    served, workers = Versions(1), FakeWorkers()
    take(served, workers)
    await ask(served, deadline_s=given_s)
    assert workers.asked[0][1] == deadline_s


async def test_a_failure_is_counted_and_not_held_against_the_version() -> None:
    def fails(stop: Stop) -> dict[str, Any]:
        raise ModelFailed("the object raised")

    served = Versions(1)
    take(served, FakeWorkers(fails))
    watched: list[Any] = []
    served.at[1].watch = lambda *seen: watched.append(seen)
    with pytest.raises(ModelFailed, match="the object raised"):
        await ask(served)
    assert served.observed == [Observed("m", Code.MODEL_FAILED, Timing(), 0, 1)]
    assert watched == []


async def test_a_version_without_such_workers_says_so() -> None:
    served = Versions(1)
    with pytest.raises(InvalidRequest, match="takes arrays, not signed objects"):
        await ask(served)
    assert served.runs[1].runs == []


async def test_a_worker_is_ended_when_its_caller_leaves() -> None:
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hangs(stop: Stop) -> dict[str, Any]:
        stop.on_ask(ended.set)
        loop.call_soon_threadsafe(begun.set)
        assert ended.wait(20)
        raise ModelFailed("killed")

    served = Versions(1)
    take(served, FakeWorkers(hangs))
    asking = ask(served)
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()
    await served.at[1].drained()


async def test_one_more_than_allowed_hears_at_once_that_there_are_too_many() -> None:
    go_on, counted, busy = threading.Event(), threading.Semaphore(2), threading.Barrier(3)

    def counts(stop: Stop) -> dict[str, Any]:
        if not counted.acquire(blocking=False):
            raise Unavailable("too many", 1.0)
        busy.wait(20)
        assert go_on.wait(20)
        return {}

    served = Versions(1)
    take(served, FakeWorkers(counts))
    asking = [ask(served) for _ in range(2)]
    await asyncio.to_thread(busy.wait, 20)
    with pytest.raises(Unavailable, match="too many"):
        await ask(served)
    go_on.set()
    await asyncio.gather(*asking)


async def test_they_end_with_their_version() -> None:
    served, workers = Versions(1), FakeWorkers()
    take(served, workers)
    await ask(served)
    served.at[1].close()
    assert workers.closed == 1
