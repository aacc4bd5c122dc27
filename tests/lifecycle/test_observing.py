"""What a request shows of its version is remembered, and some requests are kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from engine.fake_models import FakeClock, FakeModel, described, model_of
from pelton.errors import Code
from pelton.lifecycle.facts import Fact
from pelton.lifecycle.observing import LOOK_ONE_IN, Observing, RecordingPlan
from pelton.lifecycle.version import Source, Version
from pelton.messages import InferRequest, Timing
from pelton.specs import ModelSpec

CLOCK = FakeClock(1000.0)
REQUEST = InferRequest("m", {"x": np.ones(2, np.float32)})
TIMING = Timing(queue_s=5.0, compute_s=0.25)
NAN = {"y": np.array([np.nan], np.float32)}


def watched(probation: bool = False, takes_objects: bool = False, minds: bool = True, **plan):
    seen: list[Fact] = []

    def see(_: Version, fact: Fact) -> bool:
        seen.append(fact)
        return probation

    observing = Observing(RecordingPlan(**plan), see, lambda _: minds, CLOCK)
    version = Version(Source(ModelSpec("m", 1, Path("m"), "fake")))
    version.model = model_of(FakeModel(metadata=described(takes_objects=takes_objects)), CLOCK)
    return observing.watch_of(version), seen, observing, version


def test_latency_is_how_long_the_version_ran() -> None:
    watch, seen, _, version = watched()
    watch(REQUEST, None, TIMING, {"y": np.ones(1, np.float32)})
    assert seen == [Fact(None, 0.25)]
    assert version.recent.baseline().requests == 1


def test_a_failed_request_counts_the_time_that_the_version_had() -> None:
    watch, seen, _, _ = watched()
    given = InferRequest("m", {}, given_s=990.0)
    watch(given, Code.DEADLINE_EXCEEDED, None, None)
    watch(InferRequest("m", {}), Code.DEADLINE_EXCEEDED, None, None)
    assert [fact.latency_s for fact in seen] == [10.0, 0.0]
    assert not any(math.isnan(fact.latency_s) for fact in seen)


def test_every_answer_is_looked_at_on_probation() -> None:
    watch, seen, _, _ = watched(probation=True)
    unfit = [watch(REQUEST, None, TIMING, NAN) for _ in range(5)]
    assert [fact.nonfinite for fact in seen] == unfit == [True] * 5
    assert not watch(REQUEST, None, TIMING, {"y": np.ones(1, np.float32)})


def test_where_nan_is_usual_it_is_given() -> None:
    watch, seen, _, _ = watched(probation=True, minds=False)
    assert not watch(REQUEST, None, TIMING, NAN)
    assert seen[0].nonfinite


def test_otherwise_one_of_a_few_is() -> None:
    watch, seen, _, version = watched()
    unfit = [watch(REQUEST, None, TIMING, NAN) for _ in range(2 * LOOK_ONE_IN)]
    assert [turn for turn, fact in enumerate(seen, 1) if fact.nonfinite] == [
        1,
        LOOK_ONE_IN,
        2 * LOOK_ONE_IN,
    ]
    assert version.recent.baseline().nonfinite == 3
    assert not any(unfit)


def test_requests_that_went_well_are_kept() -> None:
    watch, _, observing, _ = watched(requests=2, agreement=0.9, latency_factor=3.0)
    watch(REQUEST, Code.MODEL_FAILED, None, None)
    assert observing.goldens() == ()
    watch(REQUEST, None, TIMING, {})
    (golden,) = observing.goldens()
    assert (golden.agreement, golden.latency_factor) == (0.9, 3.0)
    assert golden.inputs["x"].tolist() == [1.0, 1.0]


def test_nothing_is_kept_of_models_that_may_remember_it_or_if_nobody_wants_it() -> None:
    for plan in ({"takes_objects": True}, {"requests": 0}):
        watch, _, observing, _ = watched(**plan)
        watch(REQUEST, None, TIMING, {})
        assert observing.goldens() == ()
