"""Loading, evicting and asking may come in any order: nobody meets an unloaded model."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.virtual_time import VirtualTimeLoop
from lifecycle.fake_world import BUDGET, FakeModel, World, residency
from pelton.errors import PeltonError, Unavailable
from pelton.lifecycle.residency import Residency

NAMES = "abcde"

ACTIONS = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "leave", "break", "remove"]),
    st.sampled_from(NAMES),
    st.integers(0, 8),  # when, in quarters of a second
    st.integers(0, 8),  # how long a request runs, or until its caller leaves
)


async def act(
    action: str, name: str, when: int, long: int, world: World, models: Residency[FakeModel]
) -> None:
    await asyncio.sleep(when / 4)
    try:
        if action == "break":
            world.fails.add(name)
        elif action == "remove":
            await models.remove(name)
            models.add(name, world.sizes[name])
        elif action == "leave":
            async with asyncio.timeout(long / 4):
                await ask(models, name, 8)
        else:
            await ask(models, name, long)
    except (PeltonError, TimeoutError):
        pass


async def ask(models: Residency[FakeModel], name: str, long: int) -> None:
    lease = models.lease_now(name) or await models.lease(name)
    with lease as model:
        model.request()
        for _ in range(long):
            await asyncio.sleep(0.25)
            model.request()


@settings(max_examples=150, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=25),
    sizes=st.lists(st.integers(10, 100), min_size=len(NAMES), max_size=len(NAMES)),
    times=st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.25, 1.0])),
    pinned=st.sampled_from(["", "a"]),
    close_at=st.none() | st.integers(0, 16),
)
def test_in_any_order_the_budget_holds_and_nobody_meets_an_unloaded_model(
    actions: list[tuple[str, str, int, int]],
    sizes: list[int],
    times: tuple[float, float],
    pinned: str,
    close_at: int | None,
) -> None:
    async def live() -> None:
        world = World(dict(zip(NAMES, sizes, strict=True)), load_s=times[0], unload_s=times[1])
        models = residency(world)
        for name in pinned:
            models.pin(name, pinned=True)
        acting = [asyncio.create_task(act(*action, world, models)) for action in actions]
        if close_at is not None:  # as when the server's time to end is over
            await asyncio.sleep(close_at / 4)
            for task in acting:
                task.cancel()
        for told in await asyncio.gather(*acting, return_exceptions=True):
            assert told is None or isinstance(told, asyncio.CancelledError), repr(told)
        assert world.most <= BUDGET
        await models.close()
        assert world.taken == {}, "everything that was loaded was unloaded"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())


def test_many_models_much_traffic() -> None:
    """A longer storm, with measured sizes that differ from those of the files."""

    async def live() -> None:
        chance = random.Random(7)
        world = World({name: chance.randint(10, 45) for name in NAMES}, measures=True)
        models = residency(world, **dict.fromkeys(NAMES, 10))
        answered = 0

        async def caller() -> None:
            nonlocal answered
            for _ in range(60):
                await asyncio.sleep(chance.random())
                try:
                    await ask(models, chance.choice(NAMES), chance.randint(0, 3))
                    answered += 1
                except Unavailable as error:
                    await asyncio.sleep(error.retry_after_s or 0.0)

        await asyncio.gather(*[caller() for _ in range(12)])
        assert answered > 300
        assert len(world.unloads) > 20
        assert models.used_bytes == sum(world.taken.values()) <= BUDGET
        await models.close()
        assert world.taken == {}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())
