"""Within a budget versions sleep, are loaded again for who asks, and are exchanged all the same."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fake_models import described
from engine.virtual_time import in_virtual_time, settle
from lifecycle.keepers import PLAN, TextLoader, started, until, with_swap, write_text
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import LoadFailed, Unavailable
from pelton.lifecycle.bounded_memory import BoundedMemory, size_bytes
from pelton.lifecycle.swap_steps import SwapTimes
from pelton.lifecycle.version import Source, Version
from pelton.messages import InferRequest
from pelton.runtimes.contract import Run, Stop
from pelton.servers.model_control import IndexRow
from pelton.specs import ModelSpec, Serving, TensorSpec

SIZE = 100
"""Of each file of a model."""


def write(folder: Path, factor: float, size: int = SIZE) -> Path:
    return write_text(folder, f"{factor:.1f}".ljust(size))


def bounded(models: int, **more) -> object:
    return replace(
        with_swap(PLAN, times=SwapTimes(keep_warm_s=0.0), **more), max_models_bytes=models * SIZE
    )


async def test_who_is_asked_least_recently_makes_room(tmp_path: Path) -> None:
    loader = TextLoader()
    for name, factor in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        write(tmp_path / f"models/{name}/1", factor)
    kept = await started(tmp_path / "models", bounded(2), loader=loader)
    assert loader.open() == [("a", "1"), ("b", "1")], "c was loaded once, and had no room"
    assert kept.models.names() == ["a", "b", "c"]
    assert kept.models.is_ready("c")
    row = kept.keeper.index(False)[2]
    assert row == IndexRow(
        "c", "1", "UNAVAILABLE", "it is not in memory, and is loaded again when it is asked for"
    )
    assert await kept.ask("a") == (1.0, "1")
    assert await kept.ask("c") == (3.0, "1")
    assert loader.open() == [("a", "1"), ("c", "1")]
    assert await kept.ask("b") == (2.0, "1")
    assert loader.open() == [("b", "1"), ("c", "1")]
    await kept.end()
    assert loader.open() == []


async def test_pinned_models_stay(tmp_path: Path) -> None:
    loader = TextLoader()
    for name in ("a", "b", "c"):
        write(tmp_path / f"models/{name}/1", 1.0)
    (tmp_path / "models/a/model.toml").write_text("pinned = true")
    kept = await started(tmp_path / "models", bounded(2), loader=loader)
    for name in ("b", "c", "b", "c"):
        await kept.ask(name)
        assert loader.open() == [("a", "1"), (name, "1")]
    write(tmp_path / "models/big/1", 1.0, 2 * SIZE)
    with pytest.raises(LoadFailed, match="raise max_models_bytes, or pin fewer models"):
        await kept.keeper.load("big", None, {}, "")
    await kept.end()


async def test_versions_are_exchanged_within_the_budget(tmp_path: Path) -> None:
    loader = TextLoader()
    for name in ("a", "b"):
        write(tmp_path / f"models/{name}/1", 1.0)
    kept = await started(tmp_path / "models", bounded(2), loader=loader)
    await kept.push("a", b"2.0".ljust(SIZE))
    assert await kept.ask("a") == (2.0, "2")
    assert loader.open() == [("a", "1"), ("a", "2")], "b made room; the version before is kept"
    with pytest.raises(Unavailable, match="those that are loaded are busy"):
        await kept.ask("b")
    assert await kept.keeper.rollback("a", "") == 1
    assert await kept.ask("a") == (1.0, "1")
    await until(lambda: len(kept.keeper.shelf("a").versions) == 1)
    assert await kept.ask("b") == (1.0, "1")
    write(tmp_path / "models/c/1", 3.0)
    await kept.keeper.load("c", None, {}, "")
    assert await kept.ask("c") == (3.0, "1")
    assert ("a", "1") not in loader.open(), "once nobody goes back to it, it may make room"
    assert await kept.ask("a") == (1.0, "1")
    await kept.keeper.unload("a", "")
    await kept.keeper.unload("b", "")
    assert loader.open() == [("c", "1")]
    assert kept.models.names() == ["c"]
    await kept.end()
    assert loader.open() == []


async def test_a_version_that_does_not_fit_beside_the_old_one_is_refused(tmp_path: Path) -> None:
    loader = TextLoader()
    write(tmp_path / "models/a/1", 1.0)
    kept = await started(tmp_path / "models", bounded(1), loader=loader)
    with pytest.raises(LoadFailed, match="gate 'load': model 'a/2' needs 100 bytes of the 100"):
        await kept.push("a", b"2.0".ljust(SIZE))
    assert await kept.ask("a") == (1.0, "1")
    await kept.end()
    assert loader.open() == []


# -- a storm, at virtual time ---------------------------------------------------------------------


class Instant:
    """An instance that answers after a while, and must be open then."""

    alive = True

    def __init__(self, world: World, spec: ModelSpec) -> None:
        self.world = world
        self.spec = spec
        self.closed = False

    async def run(self, run: Run) -> dict[str, np.ndarray]:
        await asyncio.sleep(self.world.chance.random() / 100)
        assert not self.closed
        return {"x": np.full((1,), self.spec.version, np.float32)}

    def on_change(self, changed) -> None:
        pass

    def give_up(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class World:
    """Loads by waiting, and counts what is in memory."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.open = 0
        self.most = 0

    async def load(self, spec: ModelSpec, stop: Stop) -> Model:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.chance.random())
            if self.chance.random() < 0.1:
                raise LoadFailed("by chance")
        except BaseException:
            self.open -= 1
            raise
        clock = asyncio.get_running_loop().time
        metadata = described(
            TensorSpec("x", "FP32", (-1,)), name=spec.name, version=str(spec.version)
        )
        return Model(metadata, [Instant(self, spec)], Serving(), clock)

    async def warm(self, model: Model) -> None:
        await asyncio.sleep(0.01)

    async def close(self, model: Model) -> None:
        model.close()
        await asyncio.sleep(self.chance.random() / 10)
        self.open -= 1


async def at_once(call: Any, *args: Any) -> Any:
    return call(*args)


@pytest.mark.parametrize("seed", range(8))
@in_virtual_time
async def test_no_request_meets_a_model_that_is_gone(seed: int, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("storm")
    world, models = World(seed), Models()
    memory = BoundedMemory(3 * SIZE, models, world, at_once)  # type: ignore[arg-type]
    versions: dict[tuple[str, int], Version] = {}
    engine = Engine(models, lambda _: None, lender=memory)
    chance = random.Random(seed)
    answered = 0

    def version(name: str, number: int) -> Version:
        path = write(folder / name / str(number), number) / "model.onnx"
        return Version(Source(ModelSpec(name, number, path, "fake")))

    async def bring(name: str, number: int) -> None:
        one = version(name, number)
        try:
            await memory.load(one)
        except (LoadFailed, Unavailable):
            return
        memory.switch(one)
        memory.let_go(one)
        versions[name, number] = one

    async def ask(name: str) -> None:
        nonlocal answered
        await asyncio.sleep(chance.random() * 20)
        try:
            response = await engine.infer(InferRequest(name, {"x": np.ones(1, np.float32)}))
        except (Unavailable, LoadFailed):
            return
        assert response.outputs["x"][0] == int(response.version)
        answered += 1

    async def replace_one() -> None:
        await asyncio.sleep(chance.random() * 20)
        name = chance.choice("abcde")
        number = max((n for m, n in versions if m == name), default=0)
        old = versions.get((name, number))
        await bring(name, number + 1)
        if old is not None and (name, number + 1) in versions:
            memory.hide(old)
            await memory.drained(old)
            await memory.close(old)

    while {name for name, _ in versions} != set("abcde"):
        for name in "abcde":
            if (name, 1) not in versions:
                await bring(name, 1)
    asks = [ask(chance.choice("abcde")) for _ in range(400)]
    await asyncio.gather(*asks, *(replace_one() for _ in range(10)))
    assert answered > 100
    await memory.end()
    await settle()
    assert world.open == 0
    assert world.most <= 3


def test_a_models_size_is_that_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "a", 1.0)
    write(tmp_path / "a/deeper", 1.0)
    (tmp_path / "a/link").symlink_to(tmp_path / "a")
    assert size_bytes(tmp_path / "a") == 2 * SIZE
    assert size_bytes(tmp_path / "a/model.onnx") == SIZE
    assert size_bytes(tmp_path / "none") == 0


async def test_a_version_that_makes_room_answers_copies_before_it_goes(tmp_path: Path) -> None:
    """Copies for a shadow hold no lease, since nobody waits for them."""
    loader = TextLoader()
    for name, factor in (("a", 1.0), ("b", 2.0)):
        write(tmp_path / f"models/{name}/1", factor)
    kept = await started(tmp_path / "models", bounded(1), loader=loader)
    model = kept.models.get("a", 1)
    assert model is not None
    model.enter()
    asked = asyncio.create_task(kept.ask("b"))
    await until(lambda: kept.models.get("a", 1) is None)
    assert loader.open() == [("a", "1")]
    model.leave()
    assert await asked == (2.0, "1")
    assert loader.open() == [("b", "1")]
    await kept.end()
