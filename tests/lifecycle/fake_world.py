"""Models that take memory only by count, and a loader that says when it is given too many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pelton.errors import LoadFailed
from pelton.lifecycle.leases import Loaded
from pelton.lifecycle.residency import Residency

BUDGET = 100


@dataclass(eq=False)
class FakeModel:
    name: str
    open: bool = True

    def request(self) -> None:
        assert self.open, f"a request to {self.name}, which is not loaded"


@dataclass
class World:
    """Loads and unloads fake models, and counts the memory that they really take.

    Attributes:
        sizes: real size of each model.
        measures: whether the loader can tell it.
        fails: names whose next load fails.
    """

    sizes: dict[str, int]
    measures: bool = False
    load_s: float = 1.0
    unload_s: float = 1.0
    fails: set[str] = field(default_factory=set)
    taken: dict[str, int] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    most: int = 0

    async def load(self, name: str) -> Loaded[FakeModel]:
        assert name not in self.taken, f"{name} is loaded twice"
        self.taken[name] = self.sizes[name]
        self.loads.append(name)
        self.most = max(self.most, sum(self.taken.values()))
        try:
            await asyncio.sleep(self.load_s)
            if name in self.fails:
                self.fails.remove(name)
                raise LoadFailed(f"{name} is broken")
        except BaseException:
            del self.taken[name]
            raise
        return Loaded(FakeModel(name), self.sizes[name] if self.measures else None)

    async def unload(self, name: str, model: FakeModel) -> None:
        assert model.open, f"{name} is unloaded twice"
        model.open = False
        self.unloads.append(name)
        await asyncio.sleep(self.unload_s)
        del self.taken[name]


def residency(world: World, budget: int | None = BUDGET, **guesses: int) -> Residency[FakeModel]:
    models = Residency(budget, world.load, world.unload)
    for name, size in (world.sizes | guesses).items():
        models.add(name, size)
    return models


async def used(models: Residency[FakeModel], name: str) -> None:
    with await models.lease(name) as model:
        model.request()
