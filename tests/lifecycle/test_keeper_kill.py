"""A server is killed at each step of a publish, and started again: the old or the new, whole."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from lifecycle.keepers import PLAN, Kept, TextLoader, opened, with_swap
from pelton.lifecycle.swap_steps import SwapTimes
from pelton.records import VersionState
from pelton.repository import manifest
from pelton.repository.publishing import published
from repository.test_publishing_crashes import killed_at
from repository.uploads import hidden

FAST = with_swap(PLAN, times=SwapTimes(keep_warm_s=0.0))


def start(root: Path) -> Kept:
    return opened(root, FAST, loader=TextLoader())


def countable(store: Any) -> None:
    """Have each row count as a step, before it is written and after."""
    for name in ("add", "add_swap", "publish", "next_version"):
        original = getattr(store, name)

        def counted(*args: Any, _original: Any = original, **more: Any) -> Any:
            Path("/dev/null").open().close()
            try:
                return _original(*args, **more)
            finally:
                Path("/dev/null").open().close()

        object.__setattr__(store, name, counted) if hasattr(store, "__slots__") else setattr(
            store, name, counted
        )


def publish(root: Path) -> None:
    kept = start(root)
    assert kept.state is not None
    countable(kept.state.versions)

    async def work() -> None:
        await kept.keeper.start()
        assert (await kept.push("digits", b"2.0")).version == 2
        await kept.end()

    asyncio.run(work())


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose first version was published too."""
    folder = tmp_path_factory.mktemp("before")
    (folder / "models").mkdir()
    kept = start(folder / "models")

    async def work() -> None:
        await kept.keeper.start()
        assert (await kept.push("digits", b"1.0")).version == 1
        await kept.end()

    asyncio.run(work())
    return folder


def test_a_kill_at_any_step_of_a_publish_leaves_old_or_new(before: Path, tmp_path: Path) -> None:
    answered = []
    for change in range(1, 1000):
        folder = tmp_path / str(change)
        shutil.copytree(before, folder)
        killed = killed_at(change, lambda folder=folder: publish(folder / "models"))
        answered.append(asyncio.run(look(folder / "models")))
        if not killed:
            break
    assert len(answered) > 40
    assert answered == sorted(answered), "from some step on it is the new one"
    assert answered[0] == 1
    assert answered[-5:] == [2] * 5


async def look(root: Path) -> int:
    """Start again; return the version that answers."""
    kept = start(root)
    try:
        await kept.keeper.start()
        factor, version = await kept.ask("digits")
        assert str(int(factor)) == version
        assert kept.state is not None
        states = {row.version: row.state for row in kept.state.versions.list("digits")}
        there = [number for _, number in published(root)]
        assert states == dict.fromkeys(there, VersionState.PUBLISHED)
        for number in there:
            manifest.verify(root / "digits" / str(number))
        assert {name for name in hidden(root) if "/quarantine/" not in name} == set()
        row = await kept.push("digits", b"3.0")
        assert row.version in (2, 3)
        assert (await kept.ask("digits")) == (3.0, str(row.version))
    finally:
        await kept.end()
    return int(version)
