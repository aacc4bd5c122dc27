"""A folder of models that somebody changes by hand while it is served and asked."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from e2e.asking import Asking
from e2e.scaled import who_answers, write_scaled, write_versions
from pelton.client import Client, IndexEntry
from pelton.errors import NotFound
from support_server import ServerProcess, until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_versions(tmp_path / "models" / "net", 1, 2)
    return tmp_path / "models"


@pytest.fixture
def watched(serve, root: Path, tmp_path: Path) -> ServerProcess:
    return serve(root, "--watch-interval-s=0.05", "--state-dir", str(tmp_path / "state"))


def lay_in(root: Path, model: str, version: int, factor: float | None = None) -> None:
    """Put a version into its place at once, as docs tell those who copy slowly."""
    hidden = write_scaled(root / ".new" / "model.onnx", version if factor is None else factor)
    (root / model).mkdir(exist_ok=True)
    hidden.parent.rename(root / model / str(version))


def index_of(client: Client, model: str) -> dict[str, IndexEntry]:
    return {row.version: row for row in client.repository_index() if row.name == model}


def reason_of(client: Client, model: str, version: str) -> str:
    row = index_of(client, model).get(version)
    return "" if row is None else row.reason


def test_a_version_that_is_laid_in_answers_and_one_that_is_removed_goes(
    watched: ServerProcess, root: Path
) -> None:
    with Asking(watched, "net") as asking, Client(watched.url) as client:
        asking.until_answered_by(2)
        lay_in(root, "net", 10)
        asking.until_answered_by(10)
        lay_in(root, "net", 9)
        until(lambda: "9" in index_of(client, "net"))
        assert who_answers(client, "net") == 10, "versions are compared as numbers"
        shutil.rmtree(root / "net" / "10")
        asking.until_answered_by(9)
    assert asking.failures == []
    changes = [
        one
        for one, before in zip(asking.versions[1:], asking.versions, strict=False)
        if one != before
    ]
    assert changes == [10, 9], "each answers once, and no other in between"


def test_a_version_that_answers_nan_does_not_come_in(watched: ServerProcess, root: Path) -> None:
    with Asking(watched, "net") as asking, Client(watched.url) as client:
        asking.until_answered_by(2)
        lay_in(root, "net", 3, math.nan)
        until(lambda: "NaN" in reason_of(client, "net", "3"))
        assert who_answers(client, "net") == 2
    assert set(asking.versions) == {2}
    assert asking.failures == []


def test_a_version_that_is_copied_slowly_is_taken_when_it_is_whole(
    watched: ServerProcess, root: Path
) -> None:
    whole = write_scaled(root.parent / "whole.onnx", 3, padding_bytes=400_000).read_bytes()
    (root / "net" / "3").mkdir()
    with Asking(watched, "net") as asking:
        asking.until_answered_by(2)
        with (root / "net" / "3" / "model.onnx").open("wb", buffering=0) as file:
            for start in range(0, len(whole), 4000):
                file.write(whole[start : start + 4000])
        asking.until_answered_by(3)
    assert asking.failures == []


def test_a_broken_version_changes_nothing_and_says_why_until_it_is_mended(
    watched: ServerProcess, root: Path
) -> None:
    with Asking(watched, "net") as asking, Client(watched.url) as client:
        asking.until_answered_by(2)
        (root / ".new").mkdir()
        (root / ".new" / "model.onnx").write_bytes(b"no model")
        (root / ".new").rename(root / "net" / "3")
        until(lambda: index_of(client, "net").get("3", IndexEntry("")).reason)
        row = index_of(client, "net")["3"]
        assert row.state == "UNAVAILABLE"
        assert "refused at the gate 'load'" in row.reason
        assert str(root) not in row.reason
        assert "model net" in watched.wait_for_log("refused at the gate 'load'")
        asking.until_answered_by(2)
        mended = write_scaled(root / ".mended.onnx", 3)
        mended.rename(root / "net" / "3" / "model.onnx")
        asking.until_answered_by(3)
        assert index_of(client, "net")["3"] == IndexEntry("net", "3", "READY", "")
    assert asking.failures == []
    assert set(asking.versions) == {2, 3}


def test_models_come_and_go(watched: ServerProcess, root: Path) -> None:
    with Asking(watched, "net") as asking, Client(watched.url) as client:
        lay_in(root, "other", 4)
        until(lambda: "other" in {model.name for model in client.models()})
        assert who_answers(client, "other") == 4
        shutil.rmtree(root / "other")
        until(lambda: "other" not in {model.name for model in client.models()})
        with pytest.raises(NotFound):
            who_answers(client, "other")
        until(lambda: index_of(client, "other") == {})
        asking.until_answered_by(2)
    assert asking.failures == []


def test_files_that_are_replaced_are_loaded_anew(watched: ServerProcess, root: Path) -> None:
    with Client(watched.url) as client:
        assert who_answers(client, "net") == 2
        new = write_scaled(root / ".new.onnx", 7)
        new.rename(root / "net" / "2" / "model.onnx")

        def factor() -> float:
            answer = client.infer("net", {"INPUT0": np.ones((1, 3), np.float32)})
            assert answer.version == "2"
            return float(answer.outputs["OUTPUT0"][0, 0])

        until(lambda: factor() == 7)


def test_a_policy_that_is_written_later_holds(watched: ServerProcess, root: Path) -> None:
    with Asking(watched, "net") as asking, Client(watched.url) as client:
        with pytest.raises(NotFound, match="ready are: 2"):
            who_answers(client, "net", "1")
        (root / ".toml").write_text('policy = "all"\n')
        (root / ".toml").rename(root / "net" / "model.toml")
        until(lambda: client.model_metadata("net").versions == ("1", "2"))
        assert who_answers(client, "net", "1") == 1
        (root / ".toml").write_text("policy = [1]\n")
        (root / ".toml").replace(root / "net" / "model.toml")
        asking.until_answered_by(1)
        (root / ".toml").write_text("polcy = [1]\n")
        (root / ".toml").replace(root / "net" / "model.toml")
        watched.wait_for_log("did you mean")
        asking.until_answered_by(1)
    assert asking.failures == []


def test_a_disk_that_goes_away_unloads_nothing(watched: ServerProcess, root: Path) -> None:
    with Asking(watched, "net") as asking:
        asking.until_answered_by(2)
        away = root.rename(root.parent / "away")
        watched.wait_for_log("the folder of models cannot be read")
        asking.until_answered_by(2)
        away.rename(root)
        lay_in(root, "net", 3)
        asking.until_answered_by(3)
    assert asking.failures == []
