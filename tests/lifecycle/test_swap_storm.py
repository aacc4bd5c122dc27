"""Publishes, rollbacks, failures and cancellations in any order: what answers is always whole."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.virtual_time import VirtualTimeLoop
from pelton.errors import Code, LoadFailed, PeltonError
from pelton.lifecycle.facts import Baseline, Fact
from pelton.lifecycle.gates import Refused
from pelton.lifecycle.probation import Probation, ProbationPlan
from pelton.lifecycle.swap import ModelSwap
from pelton.lifecycle.swap_steps import Order, SwapTimes, Switched

TIMES = SwapTimes(5.0, 5.0, 5.0, 5.0, keep_warm_s=6.0)
PLAN = ProbationPlan(time_s=4.0, requests=20)
MOST_LOADED = 3
"""One that answers, one that is kept, one that is coming; those that leave come on top."""


class Stormy:
    """Steps that take up to two seconds each and, by chance, fail or hang."""

    def __init__(self, chance: random.Random, trouble: float) -> None:
        self.loaded = {"v0"}
        self.leaving: set[str] = set()
        self.answering = "v0"
        self.records: list[Switched[str]] = []
        self._chance = chance
        self._trouble = trouble

    async def _step(self) -> None:
        luck = self._chance.random()
        if luck < self._trouble / 2:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._chance.choice([0.0, 0.5, 2.0]))
        if luck < self._trouble:
            raise LoadFailed("bad luck")

    async def load(self, source: str) -> str:
        await self._step()
        self.loaded.add(source)
        self.check()
        return source

    async def warm(self, candidate: str) -> None:
        await self._step()

    async def judge(self, candidate: str, running: str | None) -> dict[str, Any]:
        assert running == self.answering
        await self._step()
        return {}

    async def commit(self, switched: Switched[str]) -> None:
        if self._chance.random() < self._trouble:
            raise LoadFailed("bad luck")
        self.records.append(switched)  # from here on a restart would find it
        await asyncio.sleep(self._chance.choice([0.0, 0.5, 2.0]))

    def switch(self, version: str) -> None:
        assert version in self.loaded - self.leaving
        self.answering = version

    def switched_back(self, switched: Switched[str]) -> None:
        assert switched.before != switched.after == self.answering
        self.records.append(switched)

    def probation(self, before: str) -> Probation:
        return Probation(PLAN, Baseline(), asyncio.get_running_loop().time())

    def worker_bytes(self, version: str) -> int:
        return 0

    async def drain(self, version: str) -> None:
        assert version != self.answering
        self.leaving.add(version)
        await self._step()

    async def close(self, version: str) -> None:
        assert version != self.answering
        self.loaded.remove(version)  # raises KeyError if it is closed twice
        self.leaving.discard(version)

    def check(self) -> None:
        assert len(self.loaded - self.leaving) <= MOST_LOADED


ACTIONS = st.tuples(
    st.sampled_from(["publish", "publish", "publish", "leave", "rollback", "fail", "nan"]),
    st.integers(0, 40),  # when, in quarters of a second
)


@settings(max_examples=150, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=20),
    trouble=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 99),
    close_at=st.integers(0, 80),
)
def test_whatever_happens_a_whole_version_answers_and_the_record_says_which(
    actions: list[tuple[str, int]], trouble: float, seed: int, close_at: int
) -> None:
    async def live() -> None:
        steps = Stormy(random.Random(seed), trouble)
        swap: ModelSwap[str, str] = ModelSwap("m", steps, TIMES, "v0")

        async def act(number: int, action: str, when: int) -> None:
            await asyncio.sleep(when / 4)
            served = swap.served
            assert served == steps.answering in steps.loaded
            with contextlib.suppress(PeltonError, TimeoutError):
                if action in ("publish", "leave"):
                    async with asyncio.timeout(1.0 if action == "leave" else None):
                        await swap.publish(Order(f"v{number}"))
                elif action == "rollback":
                    assert await swap.rollback() in steps.loaded
                else:
                    fails = Fact(Code.MODEL_FAILED, 0.0)
                    for _ in range(5):
                        swap.see(served, Fact(None, 0.0, True) if action == "nan" else fails)
            assert swap.served == steps.answering in steps.loaded

        acting = [
            asyncio.create_task(act(number, *action)) for number, action in enumerate(actions, 1)
        ]
        await asyncio.sleep(close_at / 4)
        await swap.close()
        for told in await asyncio.gather(*acting, return_exceptions=True):
            assert told is None, repr(told)
        assert steps.loaded == {swap.served} == {steps.answering}
        assert swap.served == (steps.records[-1].after if steps.records else "v0")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())


def test_fifty_versions_a_third_of_them_bad() -> None:
    async def live() -> None:
        chance = random.Random(50)
        steps = Stormy(chance, 0.0)
        swap: ModelSwap[str, str] = ModelSwap("m", steps, TIMES, "v0")
        good, refused, answers = "v0", 0, 0
        for number in range(1, 51):
            kind = number % 3
            steps._trouble = 1.0 if kind == 0 and number % 2 else 0.0
            try:
                version = await swap.publish(Order(f"v{number}"))
            except Refused:
                refused += 1
                assert swap.served == good
                continue
            finally:
                steps._trouble = 0.0
            for _ in range(30):
                answers += 1
                swap.see(version, Fact(None, 0.0, nonfinite=kind == 0))
            if kind != 0:
                good = version
            assert swap.served == good
        await asyncio.sleep(20.0)
        assert (refused, answers, steps.loaded) == (8, 42 * 30, {good})

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())
