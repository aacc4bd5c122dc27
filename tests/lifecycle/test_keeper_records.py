"""A database that is away keeps nobody from being answered, and nothing half done is left."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from typing import Any

import pytest

from lifecycle import keepers
from lifecycle.keepers import PLAN, TextLoader, until, write_text
from pelton.engine.infer import Engine
from pelton.engine.models import Models
from pelton.errors import Code, Unavailable
from pelton.lifecycle import boot, model_steps
from pelton.lifecycle.gates import Gate, Refused
from pelton.records import VersionState
from pelton.repository import receiving
from pelton.repository.publishing import published
from pelton.state.sqlite import file_url
from pelton.state.state import State


class Flaky:
    """A store whose calls of some names fail."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.failing: set[str] = set()
        self.tried = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.store, name)

        def attempt(*args: Any, **more: Any) -> Any:
            if name in self.failing:
                self.tried += 1
                raise Unavailable("the database is away")
            return call(*args, **more)

        return attempt


@pytest.fixture
async def world(tmp_path: Path):
    write_text(tmp_path / "models/digits/1", 1.0)
    state = State.open(file_url(tmp_path))
    store, models, loader = Flaky(state.versions), Models(), TextLoader()
    keeper = boot.open_keeper(
        tmp_path / "models",
        PLAN,
        loader,
        models,
        boot.Kept(store, state.audit),  # type: ignore[arg-type]
    )
    kept = keepers.Kept(keeper, models, Engine(models, lambda _: None), state)
    await keeper.start()
    yield kept, store, tmp_path / "models"
    store.failing.clear()
    await kept.end()
    assert loader.open() == []


@pytest.mark.parametrize("calls", [{"publish"}, {"publish", "add"}])
async def test_what_cannot_be_put_on_record_is_not_served(world, calls: set[str]) -> None:
    kept, store, root = world
    store.failing = calls
    with pytest.raises(Refused, match="the database is away") as told:
        await kept.push("digits", b"2.0")
    assert told.value.gate is Gate.SWAP
    assert await kept.ask("digits") == (1.0, "1")
    assert published(root) == []
    aside = list(root.glob(".pelton/quarantine/*/digits/2"))
    assert len(aside) == 1, "what it was is kept, out of sight"
    store.failing = set()
    assert (await kept.push("digits", b"3.0")).version == 3
    row = kept.state.versions.find("digits", 2)
    assert row is None if "add" in calls else row.state is VersionState.REFUSED


async def test_a_version_whose_row_may_be_there_is_set_to_refused(world, monkeypatch) -> None:
    kept, store, root = world
    original = store.store.publish

    def unheard(*said: Any) -> None:
        original(*said)
        raise Unavailable("the connection was lost")

    monkeypatch.setattr(store, "publish", unheard, raising=False)
    with pytest.raises(Refused, match="the connection was lost"):
        await kept.push("digits", b"2.0")
    assert kept.state.versions.find("digits", 2).state is VersionState.REFUSED
    assert (await kept.ask("digits"), published(root)) == ((1.0, "1"), [])


async def test_a_number_that_cannot_be_had_is_told(world) -> None:
    kept, store, root = world
    store.failing = {"next_version"}
    with pytest.raises(Refused, match="refused at the gate 'check': the database is away"):
        await kept.push("digits", b"2.0")
    assert published(root) == []


async def test_a_rollback_waits_for_no_database(world, monkeypatch) -> None:
    kept, store, _ = world
    monkeypatch.setattr(model_steps, "RECORD_AGAIN_S", (0.01,) * 1000)
    await kept.push("digits", b"2.0")
    store.failing = {"add_swap"}
    started_s = time.monotonic()
    assert await kept.keeper.rollback("digits", "k2") == 1
    assert time.monotonic() - started_s < 1.0
    assert await kept.ask("digits") == (1.0, "1")
    await until(lambda: store.tried > 3)
    assert kept.state.versions.latest_swaps()["digits"].after == 2
    with pytest.raises(Refused, match="the database is away"):
        await kept.push("digits", b"3.0")
    assert await kept.ask("digits") == (1.0, "1")
    store.failing = set()
    await kept.push("digits", b"4.0")
    swaps = kept.state.versions.list_swaps("digits")
    assert [(one.before, one.after, one.cause) for one in reversed(swaps)] == [
        (1, 2, "publish"),
        (2, 1, "rollback"),
        (1, 4, "publish"),
    ], "in the order in which it was"


@pytest.fixture
async def taken_back(world, monkeypatch):
    """A world in which a rollback is not on record, since the database is away."""
    kept, store, _ = world
    monkeypatch.setattr(model_steps, "RECORD_AGAIN_S", (60.0,))
    await kept.push("digits", b"2.0")
    store.failing = {"add_swap"}
    await kept.keeper.rollback("digits", "k2")
    await until(lambda: store.tried > 0)
    return kept, store


def on_record(kept: keepers.Kept) -> int:
    assert kept.state is not None
    return kept.state.versions.latest_swaps()["digits"].after


async def test_what_was_taken_back_is_put_on_record_however_late(world, monkeypatch) -> None:
    kept, store, _ = world
    monkeypatch.setattr(model_steps, "RECORD_AGAIN_S", (0.001, 0.01))
    await kept.push("digits", b"2.0")
    store.failing = {"add_swap"}
    await kept.keeper.rollback("digits", "k2")
    await until(lambda: store.tried > 10)
    assert on_record(kept) == 2
    store.failing = set()
    await until(lambda: on_record(kept) == 1)


async def test_an_orderly_end_tries_once_more(taken_back) -> None:
    kept, store = taken_back
    store.failing = set()
    async with asyncio.timeout(10):
        await kept.keeper.close()
    assert on_record(kept) == 1


async def test_an_end_does_not_wait_for_a_database_that_stays_away(taken_back, caplog) -> None:
    kept, store = taken_back
    before = store.tried
    await kept.keeper.close()
    assert store.tried == before + 1
    assert "model digits: what is not on record yet: the database is away" in caplog.text


async def test_of_several_at_once_each_comes_after_the_other(world) -> None:
    kept, _, root = world
    rows = await asyncio.gather(*(kept.push("digits", f"{n}.0".encode()) for n in range(2, 8)))
    assert sorted(row.version for row in rows) == [2, 3, 4, 5, 6, 7]
    served = kept.keeper.shelf("digits").served
    swaps = kept.state.versions.list_swaps("digits")
    assert [one.before for one in reversed(swaps)] == [1] + [
        one.after for one in reversed(swaps[1:])
    ]
    assert swaps[0].after == served.number
    assert len(published(root)) == 6


async def test_a_model_may_be_unloaded_and_published_at_once(world) -> None:
    kept, _, _ = world
    publishes = [asyncio.create_task(kept.push("digits", b"2.0")) for _ in range(3)]
    for _ in range(3):
        await kept.keeper.unload("digits", "")
        await asyncio.sleep(0.01)
    await asyncio.gather(*publishes, return_exceptions=True)
    row = await kept.push("digits", b"9.0")
    assert await kept.ask("digits") == (9.0, str(row.version))


async def test_a_full_disk_is_told_as_such(world, monkeypatch) -> None:
    kept, _, _ = world

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(receiving, "write_all", full)
        with pytest.raises(Refused, match="the server's disk is full") as told:
            await kept.push("digits", b"2.0")
    assert told.value.code is Code.DISK_FULL
    assert await kept.ask("digits") == (1.0, "1")
    assert (await kept.push("digits", b"3.0")).version == 2
