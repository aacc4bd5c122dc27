"""The result cache on the request's way."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from engine.two_versions import Versions, kept, version_of
from engine.virtual_time import in_virtual_time, settle
from pelton.caching.key import ON_LOOP_BYTES
from pelton.engine.infer import Engine
from pelton.engine.models import Models
from pelton.errors import Code, DeadlineExceeded, InvalidRequest, ModelFailed
from pelton.messages import InferRequest, Observed, Timing
from routing.asked import split

MISS, HIT, SHARED = ((("x-pelton-cache", how),) for how in ("miss", "hit", "shared"))


async def answered(served: Versions, by: int = 1, **asked):
    """Ask, end the run if there is one, and return the answer."""
    asking = served.ask(**asked)
    await settle()
    if served.runs[by].current is not None:
        served.runs[by].finish()
    return await asking


@in_virtual_time
async def test_the_second_time_the_model_is_not_run() -> None:
    served = Versions(1)
    cache = kept(served.at[1])
    first = await answered(served, id="one")
    second = await answered(served, id="two")
    assert (first.notes, second.notes) == (MISS, HIT)
    assert (first.id, second.id) == ("one", "two")
    assert second.outputs["x"].tolist() == first.outputs["x"].tolist() == [1.0]
    assert second.metadata is served.at[1].metadata
    assert len(served.runs[1].runs) == 1
    assert [one.batch_rows for one in served.observed] == [1, 0]
    assert served.observed[1] == Observed("m", None, Timing(), 0, 1)
    assert (cache.counts.hits, cache.counts.misses) == (1, 1)
    told = cache.statistics()
    assert (told.hits, told.misses, told.entries, told.bytes) == (1, 1, 1, cache.memory.bytes)


@in_virtual_time
async def test_a_model_without_a_cache_says_nothing_of_it() -> None:
    served = Versions(1)
    assert [(await answered(served)).notes for _ in range(2)] == [(), ()]


@in_virtual_time
async def test_the_same_at_once_is_run_once() -> None:
    served = Versions(1)
    kept(served.at[1])
    asking = [served.ask() for _ in range(3)]
    await settle()
    served.runs[1].finish()
    assert [one.notes for one in await asyncio.gather(*asking)] == [MISS, SHARED, SHARED]
    assert len(served.runs[1].runs) == 1
    await served.at[1].drained()


@in_virtual_time
async def test_tenants_and_versions_share_nothing() -> None:
    served = Versions(1, 2)
    kept(served.at[1], "sha256:same")
    kept(served.at[2], "sha256:same")
    for version, tenant in (("1", "a"), ("1", "b"), ("2", "a")):
        first = await answered(served, int(version), version=version, tenant=tenant)
        again = await answered(served, int(version), version=version, tenant=tenant)
        assert (first.notes, again.notes) == (MISS, HIT)
        assert again.version == version


@in_virtual_time
async def test_whom_a_request_is_for_is_no_part_of_the_question() -> None:
    served = Versions(1, route=split(1, sticky="user"))
    kept(served.at[1])
    for parameters in ({"pelton_key": "ann"}, {"user": "bob"}, {}):
        response = await answered(served, parameters=parameters)
        said = dict(response.notes)
        assert said["x-pelton-cache"] == ("miss" if len(served.observed) == 1 else "hit")
    assert (await answered(served, parameters={"temperature": 1})).notes[0] == MISS[0]


@in_virtual_time
async def test_a_sticky_field_counts_where_the_route_does_not_go_by_it() -> None:
    served = Versions(1)
    kept(served.at[1])
    for user in ("ann", "bob"):
        assert (await answered(served, parameters={"user": user})).notes == MISS


@in_virtual_time
async def test_the_choice_of_a_split_is_told_beside_the_cache() -> None:
    served = Versions(1, route=split(1))
    kept(served.at[1])
    response = await answered(served, key="ann")
    assert [name for name, _ in response.notes] == ["x-pelton-cache", "x-pelton-choice"]


@in_virtual_time
async def test_inputs_that_their_sender_can_change_pass_the_cache_by() -> None:
    served = Versions(1)
    cache = kept(served.at[1])
    for _ in range(2):
        assert (await answered(served, changeable=True)).notes == ()
    assert len(served.runs[1].runs) == 2
    assert (cache.counts.hits, cache.counts.misses) == (0, 0)


@in_virtual_time
async def test_the_digest_of_a_deterministic_model_comes_with_a_hit() -> None:
    model, instance = version_of(1, deterministic=True)
    kept(model, "sha256:ab")
    engine = Engine(Models([model]), lambda observed: None)
    request = InferRequest("m", {"x": np.ones(1, np.float32)}, deadline_s=math.inf)
    asking = asyncio.ensure_future(engine.infer(request))
    await settle()
    instance.finish()
    first, second = await asking, await engine.infer(request)
    assert second.notes == HIT
    assert first.digest.startswith("sha256:")
    assert second.digest == first.digest


@in_virtual_time
async def test_a_question_that_does_not_fit_is_refused_and_not_asked_of_the_cache() -> None:
    served = Versions(1)
    cache = kept(served.at[1])
    with pytest.raises(InvalidRequest, match="is missing"):
        await served.engine.infer(InferRequest("m", {}))
    with pytest.raises(DeadlineExceeded):
        await served.ask(deadline_s=0.0)
    assert cache.counts.misses == 1
    assert [one.error for one in served.observed] == [Code.INVALID_INPUT, Code.DEADLINE_EXCEEDED]
    await served.at[1].drained()


@in_virtual_time
async def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    served = Versions(1)
    kept(served.at[1])
    asking = [served.ask() for _ in range(2)]
    await settle()
    served.runs[1].fail(ModelFailed("broken"))
    failed = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in failed] == [ModelFailed, ModelFailed]
    assert [one.error for one in served.observed] == [Code.MODEL_FAILED] * 2
    assert (await answered(served)).notes == MISS


@in_virtual_time
async def test_who_watches_a_version_hears_of_runs_and_not_of_hits() -> None:
    served, saw = Versions(1), []
    kept(served.at[1])
    served.at[1].watch = lambda request, *of: saw.append(request.id)
    for name in ("run", "hit"):
        await answered(served, id=name)
    assert saw == ["run"]


@in_virtual_time
async def test_only_the_wanted_outputs_are_kept_and_given() -> None:
    served = Versions(1)
    kept(served.at[1])
    for _ in range(2):
        assert list((await answered(served, outputs=("x",))).outputs) == ["x"]
    assert (await answered(served)).notes == MISS


@in_virtual_time
async def test_when_the_first_leaves_another_is_run_in_its_place() -> None:
    served = Versions(1)
    kept(served.at[1])
    first, second, third = (served.ask() for _ in range(3))
    await settle()
    first.cancel()
    await settle()
    served.runs[1].finish()  # the run of the one that left
    await settle()
    served.runs[1].finish()
    assert (await second).notes == MISS
    assert (await third).notes == SHARED
    assert len(served.runs[1].runs) == 2
    await served.at[1].drained()


async def test_parameters_and_large_inputs_are_kept_too() -> None:
    served = Versions(1)
    kept(served.at[1])
    for more in ({"parameters": {"p": 1}}, {"size": ON_LOOP_BYTES}):
        first = served.ask(**more)
        while served.runs[1].current is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        served.runs[1].finish()
        assert (await first).notes == MISS
        assert (await served.ask(**more)).notes == HIT
