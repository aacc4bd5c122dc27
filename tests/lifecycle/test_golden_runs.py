"""Both versions run in turns, and what goes wrong with either has its consequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from pelton.errors import ModelFailed
from pelton.lifecycle.gates import Gate, Refused
from pelton.lifecycle.golden import Verdict
from pelton.lifecycle.golden_runs import TIMED_RUNS, WARM_RUNS, prove
from pelton.specs import Golden


class Version:
    """Answers with a value, in a time; the first run is cold."""

    def __init__(self, name: str, turns: list[str], value: float, latency_s: float = 0.01) -> None:
        self.value = value
        self.runs = 0
        self.fails_at: int | None = None
        self._name = name
        self._turns = turns
        self._latency_s = latency_s

    async def __call__(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        self._turns.append(self._name)
        self.runs += 1
        if self.runs == self.fails_at:
            raise ModelFailed("model 'm' raised ValueError")
        latency_s = 5.0 if self.runs == 1 else self._latency_s
        return {"y": inputs["x"] * np.float32(self.value)}, latency_s


async def at_once(judging: Callable[[], Verdict]) -> Verdict:
    return judging()


def golden(name: str = "g", **fields: Any) -> Golden:
    plan: dict[str, Any] = {"expected": None, "atol": 1e-3, "rtol": 0.0, "agreement": 1.0}
    inputs = {"x": np.ones(3, np.float32)}
    return Golden(name=name, inputs=inputs, **({"latency_factor": 2.0} | plan | fields))


async def test_versions_take_turns_and_take_turns_in_being_first() -> None:
    turns: list[str] = []
    new, old = Version("new", turns, 2.0), Version("old", turns, 2.0)
    measured = await prove([golden()], new, old, at_once)
    assert turns[: 2 * WARM_RUNS] == ["new"] * WARM_RUNS + ["old"] * WARM_RUNS
    timed = turns[2 * WARM_RUNS :]
    assert timed[:4] == ["old", "new", "new", "old"]
    assert timed.count("new") == timed.count("old") == TIMED_RUNS
    assert measured == {
        "golden_requests": 1,
        "g.agreement": 1.0,
        "g.latency_ms": pytest.approx(10.0),
        "g.running_latency_ms": pytest.approx(10.0),
    }


async def test_each_golden_request_counts() -> None:
    turns: list[str] = []
    goldens = [golden("a"), golden("b", expected={"y": np.full(3, 7.0, np.float32)})]
    with pytest.raises(Refused, match="golden request 'b': 3 of 3 elements") as told:
        await prove(goldens, Version("new", turns, 2.0), Version("old", turns, 2.0), at_once)
    assert told.value.gate is Gate.GOLDEN
    assert told.value.numbers["golden"] == "b"


async def test_a_slow_version_is_refused_but_not_for_its_cold_run() -> None:
    turns: list[str] = []
    with pytest.raises(Refused, match="it takes 21 ms"):
        await prove(
            [golden()], Version("new", turns, 2.0, 0.021), Version("old", turns, 2.0), at_once
        )


async def test_nothing_is_timed_where_nobody_asks_for_it() -> None:
    turns: list[str] = []
    new, old = Version("new", turns, 2.0, 60.0), Version("old", turns, 2.0)
    measured = await prove([golden(latency_factor=0.0)], new, old, at_once)
    assert measured == {"golden_requests": 1, "g.agreement": 1.0}
    assert turns == ["new"] * WARM_RUNS + ["old"] * WARM_RUNS


async def test_without_a_running_version_nothing_is_timed() -> None:
    turns: list[str] = []
    assert await prove([golden()], Version("new", turns, 2.0), None, at_once) == {
        "golden_requests": 1
    }
    assert turns == ["new"] * WARM_RUNS


async def test_without_golden_requests_nothing_runs() -> None:
    turns: list[str] = []
    new = Version("new", turns, 2.0)
    assert await prove([], new, new, at_once) == {"golden_requests": 0}
    assert turns == []


@pytest.mark.parametrize("fails_at", [1, WARM_RUNS, WARM_RUNS + 1, WARM_RUNS + TIMED_RUNS])
async def test_a_new_version_that_does_not_answer_is_refused(fails_at: int) -> None:
    turns: list[str] = []
    new, old = Version("new", turns, 2.0), Version("old", turns, 2.0)
    new.fails_at = fails_at
    with pytest.raises(Refused, match="'g' was not answered: model 'm' raised ValueError") as told:
        await prove([golden()], new, old, at_once)
    assert told.value.numbers == {"golden": "g", "code": "model_failed"}


@pytest.mark.parametrize("fails_at", [1, WARM_RUNS + 1, WARM_RUNS + TIMED_RUNS])
async def test_a_running_version_that_does_not_answer_judges_nobody(fails_at: int) -> None:
    turns: list[str] = []
    new, old = Version("new", turns, 3.0), Version("old", turns, 2.0)
    old.fails_at = fails_at
    assert await prove([golden()], new, old, at_once) == {"golden_requests": 1}


@pytest.mark.parametrize(("elements", "offloaded"), [(3, 0), (100_000, 1)])
async def test_only_large_answers_are_compared_in_a_thread(elements: int, offloaded: int) -> None:
    judged = []

    async def offload(judging: Callable[[], Verdict]) -> Verdict:
        judged.append(1)
        return judging()

    large = Golden(
        name="g",
        inputs={"x": np.ones(elements, np.float32)},
        expected=None,
        atol=0.0,
        rtol=0.0,
        agreement=1.0,
        latency_factor=0.0,
    )
    await prove([large], Version("new", [], 2.0), None, offload)
    assert len(judged) == offloaded
