"""Models are loaded and unloaded by request, and by what happens to their folder."""

from __future__ import annotations

import asyncio
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle.keepers import PLAN, Kept, TextLoader, started, until, with_swap, write_text
from pelton.engine.model import Model
from pelton.errors import InvalidRequest, LoadFailed, NotFound, Unavailable
from pelton.lifecycle.swap_steps import SwapTimes
from pelton.runtimes.contract import Stop
from pelton.specs import ModelSpec

AT_ONCE = with_swap(PLAN, times=SwapTimes(keep_warm_s=0.0))


@pytest.fixture
def loader() -> TextLoader:
    return TextLoader()


@pytest.fixture
async def kept(tmp_path: Path, loader: TextLoader):
    write_text(tmp_path / "models/digits/1", 1.0)
    write_text(tmp_path / "models/other/1", 10.0)
    one = await started(tmp_path / "models", AT_ONCE, loader=loader)
    yield one
    await one.end()
    assert loader.open() == []


def root(kept: Kept) -> Path:
    return kept.keeper._parts.view.root


async def test_a_model_is_unloaded_and_loaded(kept: Kept, loader: TextLoader) -> None:
    await kept.keeper.unload("digits", "k1")
    assert loader.open() == [("other", "1")]
    with pytest.raises(NotFound, match="unknown model 'digits'; served are: other"):
        await kept.ask("digits")
    row = kept.keeper.index(False)[0]
    assert (row.name, row.version, row.state, row.reason) == (
        "digits", "1", "UNAVAILABLE", "unloaded",
    )  # fmt: skip
    await kept.keeper.unload("digits", "k1")
    await kept.keeper.load("digits", None, {}, "k1")
    assert await kept.ask("digits") == (1.0, "1")
    assert loader.open() == [("digits", "1"), ("other", "1")]
    with pytest.raises(NotFound, match="unknown model 'cat'"):
        await kept.keeper.load("cat", None, {}, "")
    with pytest.raises(NotFound, match="unknown model 'cat'"):
        await kept.keeper.unload("cat", "")
    with pytest.raises(NotFound, match=r"unknown model '\.\./models/digits'"):
        await kept.keeper.load("../models/digits", None, {}, "")
    for config, files in (("{}", {}), (None, {"1/model.onnx": b""})):
        with pytest.raises(InvalidRequest, match="publish a new version instead"):
            await kept.keeper.load("digits", config, files, "")


async def test_loading_again_takes_what_lies_there_now(kept: Kept, loader: TextLoader) -> None:
    write_text(root(kept) / "digits/1", 1.5)
    await kept.keeper.load("digits", None, {}, "")
    assert await kept.ask("digits") == (1.5, "1")
    write_text(root(kept) / "digits/2", 2.0)
    write_text(root(kept) / "new/4", 4.0)
    await kept.keeper.load("digits", None, {}, "")
    await kept.keeper.load("new", None, {}, "")
    assert await kept.ask("digits") == (2.0, "2")
    assert await kept.ask("new") == (4.0, "4")
    write_text(root(kept) / "digits/3", "nothing")
    with pytest.raises(LoadFailed, match="digits/3 holds no number"):
        await kept.keeper.load("digits", None, {}, "")
    assert await kept.ask("digits") == (2.0, "2")
    (failed,) = [row for row in kept.keeper.index(False) if row.version == "3"]
    assert failed.state == "UNAVAILABLE"
    assert failed.reason.endswith("digits/3 holds no number")


async def test_a_model_that_is_broken_is_no_unknown_one(kept: Kept) -> None:
    write_text(root(kept) / "new/1", "nothing")
    with pytest.raises(LoadFailed, match="new/1 holds no number"):
        await kept.keeper.load("new", None, {}, "")
    with pytest.raises(Unavailable, match="version 1 of model 'new' is not ready"):
        await kept.ask("new")
    write_text(root(kept) / "new/2", 2.0)
    await kept.keeper.load("new", None, {}, "")
    assert await kept.ask("new") == (2.0, "2")


async def test_a_request_that_runs_is_answered_before_its_model_goes(kept: Kept, loader) -> None:
    model = kept.models.find("digits")
    model.enter()
    unloading = asyncio.create_task(kept.keeper.unload("digits", ""))
    await until(lambda: kept.keeper.shelf("digits").versions[0].standing.state == "DRAINING")
    assert [row.state for row in kept.keeper.index(False)] == ["UNLOADING", "READY"]
    assert ("digits", "1") in loader.open()
    model.leave()
    await unloading
    assert ("digits", "1") not in loader.open()


async def test_unloading_gives_up_what_is_being_published(
    kept: Kept, loader: TextLoader, monkeypatch
) -> None:
    at_load, go_on, load_one = asyncio.Event(), threading.Event(), loader.load_one

    def slowly(spec: ModelSpec, stop: Stop | None = None) -> Model:
        assert go_on.wait(30)
        return load_one(spec, stop)

    monkeypatch.setattr(loader, "load_one", slowly)
    from lifecycle.keepers import in_chunks
    from pelton.servers.model_control import UploadRequest

    def progress(gate: str) -> None:
        if gate == "load":
            at_load.set()

    publish = asyncio.create_task(
        kept.keeper.publish(
            "digits", UploadRequest(file_name="model.onnx"), in_chunks(b"2.0"), "", progress
        )
    )
    await at_load.wait()
    await kept.keeper.unload("digits", "")
    go_on.set()
    with pytest.raises(Unavailable, match="nothing was published"):
        await publish
    assert kept.keeper.shelf("digits").versions == []


async def test_what_is_published_while_a_model_is_unloaded_is_left_alone(
    kept: Kept, loader: TextLoader, monkeypatch
) -> None:
    loading, go_on, load_one = threading.Event(), threading.Event(), loader.load_one

    def slowly(spec: ModelSpec, stop: Stop | None = None) -> Model:
        loading.set()
        assert go_on.wait(30)
        return load_one(spec, stop)

    monkeypatch.setattr(loader, "load_one", slowly)
    swap = kept.keeper.shelf("digits").swap
    assert swap is not None
    closing = swap.close

    async def meanwhile() -> None:
        await closing()
        await until(loading.is_set)

    monkeypatch.setattr(swap, "close", meanwhile)
    unload = asyncio.create_task(kept.keeper.unload("digits", ""))
    await until(lambda: kept.keeper.shelf("digits").swap is None)
    publish = asyncio.create_task(kept.push("digits", b"2.0"))
    await unload
    go_on.set()
    assert (await publish).version == 2
    assert await kept.ask("digits") == (2.0, "2")


async def test_what_happens_in_the_folder_is_followed(tmp_path: Path, loader: TextLoader) -> None:
    models = tmp_path / "models"
    write_text(models / "digits/1", 1.0)
    write_text(models / "other/1", 10.0)
    kept = await started(models, replace(AT_ONCE, watch_interval_s=0.02), loader=loader)
    shelf = kept.keeper.shelf

    def served(name: str) -> int | None:
        version = shelf(name).served
        return None if version is None else version.number

    write_text(models / "digits/2", 2.0)
    write_text(models / "new/1", 5.0)
    await until(lambda: served("digits") == 2 and served("new") == 1)
    assert await kept.ask("digits") == (2.0, "2")
    assert await kept.ask("new") == (5.0, "1")

    before = shelf("digits").served
    write_text(models / "digits/2", 2.5)
    await until(lambda: shelf("digits").served is not before)
    assert await kept.ask("digits") == (2.5, "2")

    shutil.rmtree(models / "digits/2")
    await until(lambda: served("digits") == 1)
    shutil.rmtree(models / "new")
    await until(lambda: {row.name for row in kept.keeper.index(False)} == {"digits", "other"})
    assert "new" not in kept.models.names()

    write_text(models / "bad/1", "nothing")
    await until(lambda: "bad" in kept.models.table.names())
    with pytest.raises(Unavailable, match="version 1 of model 'bad' is not ready"):
        await kept.ask("bad")
    shutil.rmtree(models / "bad")
    await until(lambda: "bad" not in kept.models.table.names())

    (models / "digits/model.toml").write_text("[version_labels]\nstable = 1")
    await until(lambda: kept.models.table.labels.get("digits") == {"stable": 1})
    assert await kept.ask("digits", version="stable") == (1.0, "1")

    row = await kept.push("digits", b"3.0")
    published = shelf("digits").served
    for _ in range(5):
        await asyncio.sleep(0.03)
    assert shelf("digits").served is published, "what was published is not loaded once more"
    assert await kept.ask("digits") == (3.0, str(row.version))
    assert await kept.ask("other") == (10.0, "1")
    await kept.end()
    assert loader.open() == []


async def test_a_version_that_was_loaded_twice_is_found_when_the_newer_load_goes(
    kept: Kept, loader: TextLoader
) -> None:
    (root(kept) / "digits/model.toml").write_text("[version_labels]\nstable = 1")
    await kept.keeper.load("digits", None, {}, "")
    await kept.push("digits", b"2.0")
    await until(lambda: loader.open().count(("digits", "1")) == 1)
    assert await kept.ask("digits", version="stable") == (1.0, "1")


async def test_nothing_is_brought_in_for_a_model_that_is_being_unloaded(
    kept: Kept, loader: TextLoader
) -> None:
    write_text(root(kept) / "digits/2", 2.0)
    await kept.keeper.load("digits", None, {}, "")
    unloading = asyncio.create_task(kept.keeper.unload("digits", ""))
    await asyncio.sleep(0)
    await kept.keeper.bring_in("digits", [1])
    await kept.keeper.bring_in("nobody", [1])
    await unloading
    assert loader.open() == [("other", "1")]
    assert kept.models.names() == ["other"]
