"""A server begins with the versions that answered last, whatever else lies in its folder."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle.keepers import PLAN, Kept, TextLoader, opened, started, write_text
from pelton.errors import Conflict, LoadFailed, NotFound, SettingsError, Unavailable
from pelton.lifecycle.keeper_plan import KeeperPlan
from pelton.repository import manifest
from pelton.routing.plain import from_plain

PLAIN = KeeperPlan()


async def start(root: Path, plan: KeeperPlan = PLAN) -> Kept:
    return await started(root, plan, loader=TextLoader())


async def again(kept: Kept, plan: KeeperPlan = PLAN) -> Kept:
    root = kept.keeper._parts.view.root
    await kept.end()
    return await start(root, plan)


def told(kept: Kept, name: str) -> list[tuple[int, str, bool]]:
    return [(one.number, one.standing.state, one is kept.keeper.shelf(name).served)
            for one in kept.keeper.shelf(name).versions]  # fmt: skip


async def test_the_version_that_answered_last_answers_again(tmp_path: Path) -> None:
    write_text(tmp_path / "models/digits/1", 1.0)
    kept = await start(tmp_path / "models")
    await kept.push("digits", b"2.0")
    kept = await again(kept)
    assert await kept.ask("digits") == (2.0, "2")
    assert told(kept, "digits") == [(2, "READY", True)]
    # Nothing is kept warm after a start, so a rollback takes the version from the disk.
    assert await kept.keeper.rollback("digits", "k2") == 1
    assert await kept.ask("digits") == (1.0, "1")
    with pytest.raises(Conflict, match="no version of model 'digits' to go back to"):
        await kept.keeper.rollback("digits", "k2")
    kept = await again(kept)
    assert await kept.ask("digits") == (1.0, "1"), "and not the larger one, which was taken back"
    assert told(kept, "digits") == [(1, "READY", True)]
    write_text(tmp_path / "models/digits/3", 3.0)
    kept = await again(kept)
    assert await kept.ask("digits") == (3.0, "3"), "who lays a newer one there wants it to answer"
    await kept.end()


async def test_a_version_of_which_nothing_is_known_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    kept = await start(tmp_path / "models")
    await kept.push("digits", b"1.0")
    published = tmp_path / "models/digits/1"
    shutil.copytree(published, tmp_path / "models/digits/2")
    shutil.copytree(published, tmp_path / "models/elsewhere/5")
    kept = await again(kept)
    assert await kept.ask("digits") == (1.0, "1")
    assert await kept.ask("elsewhere") == (1.0, "5"), "a model that came as a whole is served"
    aside = list((tmp_path / "models/.pelton/quarantine").glob(f"*/*/*/{manifest.FILE}"))
    assert [one.parent.name for one in aside] == ["2"]
    assert (await kept.push("digits", b"2.0")).version == 2
    await kept.end()


async def test_a_broken_model_does_not_keep_others_from_being_served(
    tmp_path: Path, caplog
) -> None:
    root = tmp_path / "models"
    write_text(root / "digits/1", 1.0)
    write_text(root / "broken/1", "nothing")
    write_text(root / "misspelt/1", 1.0)
    (root / "misspelt/model.toml").write_text("polcy = 1")
    (root / "void").mkdir()
    (root / "no name").mkdir()
    write_text(root / "no name/1", 1.0)
    kept = await start(root, PLAIN)
    assert await kept.ask("digits") == (1.0, "1")
    with pytest.raises(Unavailable, match="version 1 of model 'broken' is not ready; ready are: n"):
        await kept.ask("broken")
    with pytest.raises(Unavailable, match="no version of model 'void' is ready; the repository's "):
        await kept.ask("void")
    with pytest.raises(NotFound, match=r"unknown model 'other'; served are: digits$"):
        await kept.ask("other")
    assert kept.models.names() == ["digits"]
    rows = [(row.name, row.version, row.state) for row in kept.keeper.index(False)]
    assert rows == [
        ("broken", "1", "UNAVAILABLE"),
        ("digits", "1", "READY"),
        ("misspelt", "1", "UNAVAILABLE"),
        ("no name", "", "UNAVAILABLE"),
        ("void", "", "UNAVAILABLE"),
    ]
    reasons = [row.reason for row in kept.keeper.index(False)]
    assert reasons[0] == "broken/1 holds no number"
    assert "unknown key `polcy`" in reasons[2]
    assert reasons[3].startswith("no name would make a model called 'no name'")
    assert "there is no model in the folder 'void'" in reasons[4]
    assert [row.name for row in kept.keeper.index(True)] == ["digits"]
    assert "model broken is not served: broken/1 holds no number" in caplog.text
    await kept.end()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: rewritten(folder / "model.onnx", "9.0"), "'model.onnx' was changed"),
        (lambda folder: (folder / "more.bin").write_bytes(b""), "'more.bin' was added"),
        (lambda folder: (folder / "model.onnx").unlink(), "no model file|'model.onnx' is missing"),
    ],
    ids=["changed", "added", "removed"],
)
async def test_what_was_published_is_served_as_it_was_published_or_not_at_all(
    tmp_path: Path, change, reason: str
) -> None:
    (tmp_path / "models").mkdir()
    kept = await start(tmp_path / "models")
    for name in ("digits", "other"):
        await kept.push(name, b"1.0")
    await kept.push("digits", b"2.0")
    kept = await again(kept)
    assert await kept.ask("digits") == (2.0, "2")
    for version in (1, 2):
        change(tmp_path / "models/digits" / str(version))
    with pytest.raises(LoadFailed, match=reason):
        await kept.keeper.rollback("digits", "k1")
    assert await kept.ask("digits") == (2.0, "2"), "what is loaded is what was published"
    kept = await again(kept)
    with pytest.raises(Unavailable, match="version 2 of model 'digits' is not ready"):
        await kept.ask("digits")
    assert await kept.ask("other") == (1.0, "1")
    [row] = [row for row in kept.keeper.index(False) if (row.name, row.version) == ("digits", "2")]
    assert re.search(reason, row.reason)
    assert (await kept.push("digits", b"3.0")).version == 3
    assert await kept.ask("digits") == (3.0, "3")
    await kept.end()


def rewritten(file: Path, text: str) -> None:
    file.chmod(0o600)
    file.write_text(text)


@pytest.mark.parametrize("plan", [PLAIN, PLAN], ids=["plain", "publishing"])
def test_where_nothing_can_be_served_the_start_fails(tmp_path: Path, plan: KeeperPlan) -> None:
    write_text(tmp_path / "models/broken/1", "nothing")
    loader = TextLoader()
    with pytest.raises(LoadFailed, match="broken/1 holds no number"):
        opened(tmp_path / "models", plan, loader=loader)
    assert loader.open() == []
    work = tmp_path / "models/.pelton/work"
    assert not work.exists() or list(work.iterdir()) == []


def test_a_plain_start_wants_a_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(LoadFailed, match="there is no model in"):
        opened(tmp_path / "models", PLAIN, loader=TextLoader())
    with pytest.raises(LoadFailed, match="does not exist"):
        opened(tmp_path / "nowhere", PLAIN, loader=TextLoader())


async def test_a_server_to_publish_to_may_begin_with_nothing(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    kept = await start(tmp_path / "models")
    assert kept.keeper.index(False) == []
    await kept.push("digits", b"4.0")
    assert await kept.ask("digits") == (4.0, "1")
    await kept.end()


@pytest.mark.parametrize("file", ["digits.onnx", "digits/1/model.onnx"])
def test_models_come_and_go_in_a_folder_of_models_only(tmp_path: Path, file: str) -> None:
    path = tmp_path / "models" / file
    path.parent.mkdir(parents=True)
    path.write_text("1.0")
    root = tmp_path / "models" / file.split("/")[0]
    for plan in (PLAN, replace(PLAIN, allow_publish=True), replace(PLAIN, watch_interval_s=1.0)):
        with pytest.raises(SettingsError, match="is one model"):
            opened(root, plan, loader=TextLoader())
    assert not (tmp_path / "models/.pelton").exists()


async def test_a_single_file_may_be_loaded_again(tmp_path: Path) -> None:
    file = write_text(tmp_path / "models", 1.0) / "model.onnx"
    kept = await start(file, replace(PLAIN, explicit_models=True))
    assert await kept.ask("model") == (1.0, "1")
    file.write_text("2.0")
    await kept.keeper.load("model", None, {}, "")
    assert await kept.ask("model") == (2.0, "1")
    with pytest.raises(NotFound, match="unknown model 'other'"):
        await kept.keeper.load("other", None, {}, "")
    await kept.end()


async def test_several_versions_answer_side_by_side(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in (1, 2, 10):
        write_text(root / f"digits/{version}", version)
    (root / "digits/model.toml").write_text(
        'policy = "all"\n[version_labels]\nstable = 1\ncanary = 10'
    )
    kept = await start(root)
    assert await kept.ask("digits") == (10.0, "10")
    for version in ("1", "2", "10"):
        assert await kept.ask("digits", version=version) == (float(version), version)
    assert await kept.ask("digits", version="stable") == (1.0, "1")
    await kept.push("digits", b"11")
    await kept.push("digits", b"12")
    assert await kept.ask("digits") == (12.0, "12")
    assert await kept.ask("digits", version="10") == (10.0, "10"), "the policy wants all"
    rows = await kept.keeper.versions("digits")
    assert [(row.version, row.labels) for row in rows][:3] == [
        (1, ("stable",)),
        (2, ()),
        (10, ("canary",)),
    ]
    await kept.end()


async def test_nobody_stands_in_for_the_version_that_is_to_answer(tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_text(root / "digits/1", 1.0)
    write_text(root / "digits/2", "nothing")
    (root / "digits/model.toml").write_text('policy = "all"')
    kept = await start(root, PLAIN)
    with pytest.raises(Unavailable, match="version 2 of model 'digits' is not ready"):
        await kept.ask("digits")
    assert await kept.ask("digits", version="1") == (1.0, "1")
    await kept.end()


async def test_nor_does_one_that_is_not_even_loaded(tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_text(root / "other/1", 1.0)
    write_text(root / "digits/1", 1.0)
    write_text(root / "digits/2", "nothing")
    kept = await start(root)
    with pytest.raises(Unavailable, match="version 2 of model 'digits' is not ready"):
        await kept.ask("digits")
    assert (await kept.push("digits", b"3.0")).version == 3
    assert await kept.ask("digits") == (3.0, "3")
    await kept.end()


async def test_a_route_is_followed_though_the_version_that_is_to_answer_is_broken(
    tmp_path: Path,
) -> None:
    root = tmp_path / "models"
    write_text(root / "digits/1", 1.0)
    write_text(root / "digits/2", "nothing")
    write_text(root / "other/1", 10.0)
    kept = opened(root, PLAN, loader=TextLoader())
    plain = {"model": "digits", "policy": "pinned", "version": 1}
    kept.models.table = kept.models.table.with_route(from_plain("old", plain))
    await kept.keeper.start()
    assert await kept.ask("old") == (1.0, "1")
    with pytest.raises(Unavailable, match="version 2 of model 'digits' is not ready"):
        await kept.ask("digits")
    await kept.push("digits", b"3.0")
    assert (await kept.ask("digits"), await kept.ask("old")) == ((3.0, "3"), (1.0, "1"))
    await kept.end()


async def test_versions_that_routes_name_are_loaded_too(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in (1, 2, 3):
        write_text(root / f"digits/{version}", version)
    kept = opened(root, PLAN, loader=TextLoader())
    plain = {"model": "digits", "policy": "pinned", "version": 2}
    kept.models.table = kept.models.table.with_route(from_plain("old", plain))
    await kept.keeper.start()
    assert await kept.ask("old") == (2.0, "2")
    assert await kept.ask("digits") == (3.0, "3")
    assert [one.version for one in kept.models.loaded("digits")] == [2, 3]
    await kept.keeper.load("digits", None, {}, "")
    assert await kept.ask("old") == (2.0, "2"), "and stay"
    await kept.end()


async def test_a_version_that_was_taken_back_is_loaded_for_whoever_names_it(tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_text(root / "digits/1", 1.0)
    kept = await start(root)
    await kept.push("digits", b"2.0")
    await kept.keeper.rollback("digits", "k1")
    await kept.push("digits", b"3.0")
    await kept.keeper.rollback("digits", "k1")
    await kept.end()
    kept = opened(root, PLAN, loader=TextLoader())
    plain = {"model": "digits", "policy": "pinned", "version": 2}
    kept.models.table = kept.models.table.with_route(from_plain("lab", plain))
    await kept.keeper.start()
    assert await kept.ask("lab") == (2.0, "2")
    assert await kept.ask("digits") == (1.0, "1")
    assert [one.version for one in kept.models.loaded("digits")] == [1, 2], "3 is not named"
    await kept.end()


async def test_versions_that_labels_name_are_loaded_too(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in (1, 2, 3):
        write_text(root / f"digits/{version}", version)
    (root / "digits/model.toml").write_text("[version_labels]\nstable = 1\nlost = 9")
    kept = await start(root)
    assert await kept.ask("digits", version="stable") == (1.0, "1")
    assert await kept.ask("digits") == (3.0, "3")
    assert [one.version for one in kept.models.loaded("digits")] == [1, 3]
    await kept.keeper.load("digits", None, {}, "")
    assert await kept.ask("digits", version="stable") == (1.0, "1"), "and stay"
    await kept.keeper.unload("digits", "")
    assert kept.models.loaded("digits") == []
    await kept.end()


async def test_what_labels_name_may_sleep_where_memory_is_bounded(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in (1, 2, 3):
        write_text(root / f"digits/{version}", float(version))  # three bytes each
    (root / "digits/model.toml").write_text("[version_labels]\nstable = 1\nold = 2")
    kept = await start(root, replace(PLAN, max_models_bytes=6))
    for _ in range(2):
        assert await kept.ask("digits") == (3.0, "3")
        assert await kept.ask("digits", version="stable") == (1.0, "1")
        assert await kept.ask("digits", version="old") == (2.0, "2")
    await kept.end()
