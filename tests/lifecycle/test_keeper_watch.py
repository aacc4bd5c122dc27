"""What one model's folder breaks keeps no other one from being followed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle.keepers import PLAN, TextLoader, started, until, write_text
from pelton.errors import LoadFailed
from pelton.lifecycle.keeper_watch import FolderWatch
from pelton.lifecycle.unhurried import unhurried
from pelton.repository.watching import look

BOMBS = (
    "max_queue_rows = " + "9" * 5_000,
    "max_queue_rows = 0x" + "f" * 50_000,
    ".".join(["a"] * 30_000) + " = 1",
    "a = " + "[" * 30_000,
    "instances = 9999-99-99",
)


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:24])
async def test_a_model_toml_that_cannot_be_read_harms_its_own_model_only(
    tmp_path: Path, bomb: str
) -> None:
    models = tmp_path / "models"
    write_text(models / "digits/1", 1.0)
    (write_text(models / "early/1", 1.0) / "model.toml").write_text(bomb)
    kept = await started(models, replace(PLAN, watch_interval_s=0.02), loader=TextLoader())
    assert await kept.ask("digits") == (1.0, "1")
    (write_text(models / "late/1", 1.0) / "model.toml").write_text(bomb)
    await until(lambda: any(row.name == "late" for row in kept.keeper.index(False)))
    write_text(models / "next/1", 2.0)
    await until(lambda: "next" in kept.models.names())
    assert await kept.ask("next") == (2.0, "1")
    told = {row.name: row.reason for row in kept.keeper.index(False) if row.reason}
    assert told.keys() == {"early", "late"}
    assert all(f"{name}/1/model.toml" in why for name, why in told.items())
    await kept.end()


async def test_nothing_that_one_model_raises_ends_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = []

    async def tell(model: str, changed: frozenset[int | None]) -> None:
        told.append(model)
        if model == "a":
            raise LoadFailed("it is broken")
        if model == "b":
            raise ValueError("nobody thought of this")

    watch = FolderWatch(tmp_path, look(tmp_path), 0.01, tell, unhurried)
    task = asyncio.get_running_loop().create_task(watch.run())
    with caplog.at_level(logging.ERROR):
        for name in ("a", "b", "c"):
            write_text(tmp_path / name / "1", 1.0)
        await until(lambda: told.count("c") == 1)
        write_text(tmp_path / "d/1", 1.0)
        await until(lambda: "d" in told)
    assert not task.done()
    assert "model a, which has changed: it is broken" in caplog.messages
    assert "model b, which has changed" in caplog.messages
    task.cancel()


async def test_a_look_that_fails_is_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    def failing(root: Path) -> dict[object, object]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise PermissionError("shut")
        return {}

    async def tell(model: str, changed: frozenset[int | None]) -> None: ...

    monkeypatch.setattr("pelton.lifecycle.keeper_watch.look", failing)
    watch = FolderWatch(tmp_path, {}, 0.01, tell, unhurried)
    task = asyncio.get_running_loop().create_task(watch.run())
    await until(lambda: looks == 3)
    assert "the folder of models cannot be looked at" in caplog.messages
    task.cancel()
