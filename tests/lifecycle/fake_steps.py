"""Steps of a swap that do what a test plans for them, on versions that are texts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine.virtual_time import settle
from pelton.errors import Code
from pelton.lifecycle.facts import Baseline, Fact
from pelton.lifecycle.probation import Probation, ProbationPlan
from pelton.lifecycle.swap import ModelSwap
from pelton.lifecycle.swap_steps import SwapTimes, Switched

GOOD = Fact(None, 0.001)
FAILED = Fact(Code.MODEL_FAILED, 0.001)
NONFINITE = Fact(None, 0.001, nonfinite=True)

STEPS = ("load", "warm", "judge", "commit")
TIMES = SwapTimes(
    load_timeout_s=100.0,
    warm_timeout_s=50.0,
    golden_timeout_s=30.0,
    drain_timeout_s=20.0,
    keep_warm_s=600.0,
)
PLAN = ProbationPlan(time_s=300.0, requests=50)

Action = Callable[[], Any]


class FakeSteps:
    """Versions are texts. Every step takes a second, and does what a test has planned for it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.loaded: set[str] = set()
        self.answering: str | None = None
        self.records: list[Switched[str]] = []
        self.judged: list[tuple[str, str | None]] = []
        self.planned: dict[str, Action] = {}
        self.plan = PLAN
        self.bytes: dict[str, int] = {}

    async def _do(self, step: str, version: str) -> None:
        self.done.append(f"{step} {version}")
        await asyncio.sleep(1.0)
        action = self.planned.get(f"{step} {version}") or self.planned.get(step)
        if action is not None:
            result = action()
            if result is not None:
                await result

    async def load(self, source: str) -> str:
        await self._do("load", source)
        self.loaded.add(source)
        return source

    async def warm(self, candidate: str) -> None:
        await self._do("warm", candidate)

    async def judge(self, candidate: str, running: str | None) -> dict[str, Any]:
        self.judged.append((candidate, running))
        await self._do("judge", candidate)
        return {"golden_requests": 3}

    async def commit(self, switched: Switched[str]) -> None:
        await self._do("commit", switched.after)
        self.records.append(switched)

    def switch(self, version: str) -> None:
        assert version in self.loaded, f"{version} was given requests and is not loaded"
        self.answering = version

    def switched_back(self, switched: Switched[str]) -> None:
        self.records.append(switched)

    def probation(self, before: str) -> Probation:
        self.done.append(f"probation after {before}")
        now_s = asyncio.get_running_loop().time()
        return Probation(self.plan, Baseline(100, 0.0, 0, 0.001, 0.002), now_s)

    def worker_bytes(self, version: str) -> int:
        return self.bytes.get(version, 0)

    async def drain(self, version: str) -> None:
        assert version != self.answering
        await self._do("drain", version)

    async def close(self, version: str) -> None:
        assert version != self.answering
        self.done.append(f"close {version}")
        self.loaded.remove(version)


def swap_of(steps: FakeSteps, served: str | None = "v1", **times: float) -> ModelSwap[str, str]:
    if served is not None:
        steps.loaded.add(served)
        steps.answering = served
    plan = {name: getattr(TIMES, name) for name in SwapTimes.__slots__} | times
    return ModelSwap("m", steps, SwapTimes(**plan), served)


def untouched(steps: FakeSteps, swap: ModelSwap[str, str]) -> bool:
    return (
        steps.answering == swap.served == "v1"
        and steps.loaded == {"v1"}
        and swap.kept is None
        and not swap.on_probation
        and not steps.records
    )


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


def raising(error: Exception) -> Action:
    def act() -> None:
        raise error

    return act


async def until(reached: Callable[[], bool]) -> None:
    """Let time pass in small steps until something has been reached."""
    for _ in range(1000):
        await settle()
        if reached():
            return
        await asyncio.sleep(0.25)
    raise AssertionError("it was never reached")
