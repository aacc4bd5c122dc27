"""What `GET /stats` tells."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from engine.fake_models import FakeClock, FakeModel, described, model_of
from pelton.caching.cache import CacheStatistics
from pelton.caching.making import cache_for
from pelton.caching.redis_store import RedisCounts
from pelton.engine.cached import answer_cached
from pelton.engine.models import Models
from pelton.engine.shadowing import ShadowCounts
from pelton.errors import Code
from pelton.messages import InferRequest, Observed, Timing
from pelton.monitoring.counters import Counters
from pelton.routing.policy import Route
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.refused_counts import RefusedCounts
from pelton.specs import Serving, TensorSpec
from pelton.stats import Copies, Statistics

X = TensorSpec("x", "FP32", (-1,))


def served(*names: str) -> Models:
    clock = FakeClock()
    return Models(model_of(FakeModel(metadata=described(X, name=name)), clock) for name in names)


def no_copies() -> Copies:
    return Copies(ShadowCounts(), Counters(FakeClock()))


def statistics(models: Models, clock: FakeClock) -> tuple[Statistics, Counters]:
    counters = Counters(clock)
    for name in models.names():
        counters.know(name)
    return Statistics(counters, models, MemoryBudget(4096), RefusedCounts(), no_copies()), counters


def counted() -> Statistics:
    clock = FakeClock(0.0)
    told, counters = statistics(served("robot", "idle"), clock)
    for seconds in (0.5, 1.5, 1.0):
        counters.observe(Observed("robot", None, Timing(queue_s=9.0, compute_s=seconds)))
    counters.observe(Observed("robot", Code.INVALID_INPUT, Timing()))
    counters.observe(Observed("guess", Code.NOT_FOUND, Timing()))
    clock.now_s = 10.0
    return told


INSIDE: dict[str, Any] = {
    "queue": {
        "requests": 0,
        "rows": 0,
        "bytes": 0,
        "expired": 0,
        "cancelled": 0,
        "refused_full": 0,
    },
    "batches": {"running": 0, "runs": 0, "rows": 0, "mean_rows": 0.0},
    "instances": {"all": 2, "alive": 2},
    "restarts": 0,
    "worker_bytes": 0,
}
ROBOT = {
    "total_requests": 4,
    "successful_requests": 3,
    "failed_requests": 1,
    "total_inference_time": 3.0,
    "avg_inference_time": 1.0,
    "uptime_seconds": 10.0,
    "requests_per_second": 0.4,
    "success_rate": 0.75,
}
IDLE = {
    "total_requests": 0,
    "successful_requests": 0,
    "failed_requests": 0,
    "total_inference_time": 0.0,
    "avg_inference_time": 0.0,
    "uptime_seconds": 10.0,
    "requests_per_second": 0.0,
    "success_rate": 0.0,
}
MEMORY = {
    "buffered_bytes": 0,
    "max_buffered_bytes": 4096,
    "waiting_for_memory": 0,
    "refused_requests": {"unauthenticated": 0, "forbidden": 0, "rate_limited": 0},
}


def test_statistics_of_one_model() -> None:
    told = counted()
    assert told.told("robot") == ROBOT | INSIDE
    assert told.told("idle") == IDLE | INSIDE


def test_statistics_of_all() -> None:
    assert counted().told(None) == ROBOT | MEMORY | {
        "total_requests": 5,
        "failed_requests": 2,
        "requests_per_second": 0.5,
        "success_rate": 0.6,
        "models": {"robot": ROBOT | INSIDE, "idle": IDLE | INSIDE},
    }


def test_statistics_in_the_very_first_moment() -> None:
    told, _ = statistics(Models(), FakeClock())
    assert told.told(None) == IDLE | MEMORY | {"uptime_seconds": 0.0, "models": {}}


async def test_runs_are_counted() -> None:
    models = served("robot")
    told, _ = statistics(models, FakeClock())
    for _ in range(3):
        await models.find("robot").answer(InferRequest("robot", {"x": np.ones(1, np.float32)}))
    assert told.told("robot")["batches"] == {"running": 0, "runs": 3, "rows": 3, "mean_rows": 1.0}
    models.close()


async def test_versions_have_numbers_of_their_own() -> None:
    clock = FakeClock()
    models = Models(
        model_of(FakeModel(metadata=described(X, name="robot", version=version)), clock)
        for version in ("2", "10")
    )
    told, _ = statistics(models, clock)
    for version in ("2", "10", "10"):
        request = InferRequest("robot", {"x": np.ones(1, np.float32)})
        await models.find("robot", version).answer(request)
    robot = told.told("robot")
    assert robot["batches"]["runs"] == 3
    assert robot["instances"] == {"all": 4, "alive": 4}
    assert [(one, robot["versions"][one]["batches"]["runs"]) for one in robot["versions"]] == [
        ("2", 1),
        ("10", 2),
    ]
    models.close()


def test_a_model_that_is_asleep_has_numbers_too() -> None:
    models = served("robot")
    told, counters = statistics(models, FakeClock())
    counters.observe(Observed("robot", None, Timing(compute_s=1.0)))
    models.sleep(models.find("robot"))
    robot = told.told("robot")
    assert robot["successful_requests"] == 1
    assert robot["instances"] == {"all": 0, "alive": 0}


def test_a_route_has_the_numbers_of_its_model() -> None:
    models = served("robot")
    told, counters = statistics(models, FakeClock())
    counters.observe(Observed("robot", None, Timing(compute_s=1.0)))
    models.table = models.table.with_route(Route("beta", "robot"))
    assert told.told("beta")["successful_requests"] == 1


async def test_what_is_kept_of_answers_is_told_of_each_version_and_together() -> None:
    clock = FakeClock()
    models = Models(
        model_of(FakeModel(metadata=described(X, name="robot", version=version)), clock)
        for version in ("1", "2", "3")
    )
    told, _ = statistics(models, clock)
    assert "cache" not in told.told("robot")
    for version, requests in (("1", 1), ("2", 3)):
        model = models.find("robot", version)
        cache = model.cache = cache_for(model.metadata, Serving(cache=True), version, clock)
        for _ in range(requests):
            request = InferRequest("robot", {"x": np.ones(1, np.float32)})
            await answer_cached(request, model, cache, (model.checked(request), {}))
    robot = told.told("robot")
    counts = {name: robot["cache"][name] for name in ("hits", "misses", "stored", "entries")}
    assert counts == {"hits": 2, "misses": 2, "stored": 2, "entries": 2}
    assert set(robot["cache"]) == {field.name for field in dataclasses.fields(CacheStatistics)}
    versions = robot["versions"]
    assert (versions["1"]["cache"]["hits"], versions["2"]["cache"]["hits"]) == (0, 2)
    assert robot["cache"]["bytes"] == sum(versions[one]["cache"]["bytes"] for one in "12") > 0
    assert "cache" not in versions["3"]
    models.close()


def test_what_only_some_servers_have_is_told_by_its_name() -> None:
    counts = RedisCounts(hits=2, skipped=3)
    further = {"cache_redis": lambda: dataclasses.asdict(counts)}
    copies, budget = no_copies(), MemoryBudget(1)
    told = Statistics(
        Counters(FakeClock()), Models(), budget, RefusedCounts(), copies, further
    ).told(None)
    assert (told["cache_redis"]["hits"], told["cache_redis"]["skipped"]) == (2, 3)


def test_what_is_held_is_told() -> None:
    budget = MemoryBudget(4096)
    told = Statistics(Counters(FakeClock()), Models(), budget, RefusedCounts(), no_copies())
    assert budget.take(1000)
    assert told.told(None)["buffered_bytes"] == 1000


def test_who_was_refused_is_told_by_what_they_were_told() -> None:
    refused = RefusedCounts()
    told = Statistics(Counters(FakeClock()), Models(), MemoryBudget(1), refused, no_copies())
    for status in (401, 403, 403, 429, 200, 400, 404, 503):
        refused.note(status)
    assert told.told(None)["refused_requests"] == {
        "unauthenticated": 1,
        "forbidden": 2,
        "rate_limited": 1,
    }


def test_what_shadows_did_is_told_apart() -> None:
    clock = FakeClock()
    models = Models(
        model_of(FakeModel(metadata=described(X, name="robot", version=version)), clock)
        for version in ("2", "10")
    )
    copies = Copies(ShadowCounts(answered=1, failed=2, shed=3), Counters(clock))
    for error in (None, Code.MODEL_FAILED, Code.MODEL_FAILED):
        copies.counters.observe(Observed("robot", error, Timing(compute_s=0.5), 1, 2))
    counters = Counters(clock)
    counters.know("robot")
    counters.observe(Observed("robot", None, Timing(compute_s=0.25), 1, 10))
    told = Statistics(counters, models, MemoryBudget(1), RefusedCounts(), copies).told(None)
    assert told["shadows"] == {"answered": 1, "failed": 2, "shed": 3}
    assert told["total_requests"] == 1
    versions = told["models"]["robot"]["versions"]
    assert versions["10"]["avg_inference_time"] == 0.25
    assert "copies" not in versions["10"]
    assert versions["2"]["total_requests"] == 0
    assert versions["2"]["copies"] == {
        "total_requests": 3,
        "successful_requests": 1,
        "failed_requests": 2,
        "total_inference_time": 0.5,
        "avg_inference_time": 0.5,
    }
    models.close()
