"""A version that turns out worse is taken back by itself, and stays away; others are not touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lifecycle.keepers import (
    GOOD_RUNS,
    PLAN,
    Kept,
    TextLoader,
    started,
    until,
    with_swap,
    write_text,
)
from pelton.errors import ModelFailed
from pelton.lifecycle.gates import Refused
from pelton.lifecycle.observing import RecordingPlan
from pelton.lifecycle.probation import ProbationPlan
from pelton.records import VersionState
from pelton.routing.plain import from_plain


@pytest.fixture
async def kept(tmp_path: Path):
    write_text(tmp_path / "models/digits/1", 1.0)
    few = with_swap(PLAN, recording=RecordingPlan(requests=2, latency_factor=0.0))
    one = await started(tmp_path / "models", few, loader=TextLoader())
    yield one
    await one.end()


@pytest.mark.parametrize(
    ("then", "why"), [("fails", "requests failed"), ("nan", "answers held NaN or infinity")]
)
async def test_a_version_that_goes_wrong_is_taken_back(kept: Kept, then: str, why: str) -> None:
    for _ in range(40):
        assert await kept.ask("digits") == (1.0, "1")
    await kept.push("digits", f"2.0 {then}".encode())
    assert kept.keeper.shelf("digits").swap is not None
    seen = [await kept.ask("digits") for _ in range(60)]
    assert (seen[0], seen[-1]) == ((2.0, "2"), (1.0, "1"))
    assert set(seen) == {(2.0, "2"), (1.0, "1")}, "what it fails the version before answers"
    await until(lambda: len(kept.keeper.shelf("digits").versions) == 1)
    assert kept.state is not None
    store = kept.state.versions
    await until(lambda: store.find("digits", 2).state is VersionState.WITHDRAWN)  # type: ignore[union-attr]
    swap = store.latest_swaps()["digits"]
    assert (swap.before, swap.after, swap.cause, swap.actor) == (2, 1, "probation", "")
    assert why in swap.numbers["reason"]
    (_, told) = await kept.keeper.versions("digits")
    assert (told.state, told.reason) == ("withdrawn", swap.numbers["reason"])
    assert (await kept.push("digits", b"3.0")).version == 3
    assert await kept.ask("digits") == (3.0, "3")


async def test_who_names_the_version_is_told_that_it_fails(kept: Kept) -> None:
    await kept.ask("digits")
    await kept.push("digits", b"2.0 fails")
    route = from_plain("pinned", {"policy": "pinned", "model": "digits", "version": 2})
    kept.models.table = kept.models.table.with_route(route)
    seen = []
    for name, version in [("digits", "2"), ("pinned", None), ("digits", None)] * GOOD_RUNS:
        try:
            seen.append((name, version, (await kept.ask(name, version=version))[1]))
        except ModelFailed:
            seen.append((name, version, "failed"))
    assert {("digits", "2", "failed"), ("pinned", None, "failed")} <= set(seen)
    assert ("digits", None, "failed") not in seen
    assert ("digits", None, "1") in seen


async def test_a_good_version_passes(tmp_path: Path) -> None:
    write_text(tmp_path / "models/digits/1", 1.0)
    plan = with_swap(PLAN, probation=ProbationPlan(requests=50, latency_factor=0.0))
    kept = await started(tmp_path / "models", plan, loader=TextLoader())
    await kept.push("digits", b"2.0")
    for _ in range(49):
        await kept.ask("digits")
    assert [row.on_probation for row in await kept.keeper.versions("digits")] == [False, True]
    await kept.ask("digits")
    assert [row.on_probation for row in await kept.keeper.versions("digits")] == [False, False]
    await kept.end()


async def test_what_was_usual_before_is_no_fault(tmp_path: Path) -> None:
    write_text(tmp_path / "models/digits/1", "1.0 nan")
    plan = with_swap(PLAN, recording=RecordingPlan(requests=0))
    kept = await started(tmp_path / "models", plan, loader=TextLoader())
    for _ in range(100):
        await kept.ask("digits")
    await kept.push("digits", b"2.0 nan")
    for _ in range(60):
        assert (await kept.ask("digits"))[1] == "2"
    await kept.end()


async def test_not_one_request_fails_while_versions_come_and_go(tmp_path: Path) -> None:
    write_text(tmp_path / "models/digits/1", 1.0)
    loader = TextLoader()
    kept = await started(tmp_path / "models", PLAN, loader=loader)
    answers: list[tuple[float, str]] = []
    over = False

    async def ask() -> None:
        while not over:
            answers.append(await kept.ask("digits"))
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    refused = 0
    for number in range(2, 32):
        bad = number % 3 == 0
        try:
            await kept.push("digits", b"nothing" if bad else f"{number}.0".encode())
        except Refused:
            assert bad
            refused += 1
        if number % 5 == 0 and not bad:
            await kept.keeper.rollback("digits", "")
    over = True
    await asyncio.gather(*asking)
    assert refused == 10
    assert all(str(int(factor)) == version for factor, version in answers)
    assert len({version for _, version in answers}) > 10
    await until(lambda: len(loader.open()) <= 2)
    await kept.end()
    assert loader.open() == []
