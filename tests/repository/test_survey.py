"""All that lies under a path: every version, and what is wrong with those that are broken."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository import watching
from pelton.repository.scan import FoundModel, scan, spec_elsewhere, survey, survey_one
from pelton.specs import ModelSpec
from repository.folders import CLAIMS, toml, tree


def found(path: Path) -> dict[str, FoundModel]:
    return {model.name: model for model in survey(path, CLAIMS)}


def versions(model: FoundModel) -> list[tuple[int, str]]:
    """Each version with the reason why it is not to be loaded."""
    return [(version, model.reason(version)) for version in model.versions]


LEFT_OUT = "the model's version policy leaves it out"


def test_all_versions_are_told_with_those_that_are_wanted(tmp_path: Path) -> None:
    tree(tmp_path, *(f"net/{version}/m.onnx" for version in (1, 2, 9, 10)))
    model = found(tmp_path)["net"]
    assert versions(model) == [(1, LEFT_OUT), (2, LEFT_OUT), (9, LEFT_OUT), (10, "")]
    toml(tmp_path / "net", "policy = {latest = 2}")
    model = found(tmp_path)["net"]
    assert model.chosen == (9, 10)
    assert [spec.version for spec in model.specs()] == [9, 10]
    assert model.reason(11) == "version 11 is not there"


def test_the_largest_that_is_wanted_answers(tmp_path: Path) -> None:
    tree(tmp_path, *(f"net/{version}/m.onnx" for version in (1, 2, 10)))
    toml(tmp_path / "net", "policy = [1, 2]")
    assert [spec.version for spec in scan(tmp_path, CLAIMS)] == [2]


def test_a_broken_version_leaves_the_others(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/m.onnx", "net/2/", "other/1/m.onnx")
    toml(tmp_path / "net", "policy = 'all'")
    models = found(tmp_path)
    assert [spec.version for spec in models["net"].specs()] == [1]
    assert models["net"].reason(2).startswith("there is no model file in net/2")
    assert models["net"].broken is None
    assert [spec.version for spec in models["other"].specs()] == [1]
    with pytest.raises(LoadFailed, match="no model file in net/2"):
        scan(tmp_path, CLAIMS)


def test_a_broken_model_leaves_the_others(tmp_path: Path) -> None:
    tree(tmp_path, "a/1/m.onnx", "b/1/m.onnx", "b/2/m.onnx", "empty/", "z z/1/m.onnx")
    toml(tmp_path / "b", "nonsense = 1")
    models = found(tmp_path)
    assert list(models) == ["a", "b", "empty", "z z"]
    assert [spec.version for spec in models["a"].specs()] == [1]
    for name, said in {
        "b": "b/model.toml: unknown key `nonsense`",
        "empty": "there is no model in the folder 'empty'",
        "z z": "would make a model called 'z z'",
    }.items():
        broken = models[name].broken
        assert broken is not None
        assert said in broken.message
        assert models[name].specs() == []
    # An index shows both versions of it, each with the reason.
    assert [version for version, _ in versions(models["b"])] == [1, 2]
    assert all("nonsense" in reason for _, reason in versions(models["b"]))


def test_a_plain_start_with_one_broken_model_fails(tmp_path: Path) -> None:
    folder = toml(tree(tmp_path / "net", "1/m.onnx"), "nonsense = 1")
    with pytest.raises(LoadFailed, match="unknown key `nonsense`"):
        scan(folder, CLAIMS)
    model = found(folder)["net"]
    assert model.broken is not None
    assert model.specs() == []


def test_nothing_there_is_an_error_for_both(tmp_path: Path) -> None:
    for look in (scan, survey):
        with pytest.raises(LoadFailed, match="does not exist"):
            look(tmp_path / "gone", CLAIMS)
        with pytest.raises(LoadFailed, match="there is no model in"):
            look(tmp_path, CLAIMS)


def test_a_single_file_is_one_model(tmp_path: Path) -> None:
    tree(tmp_path, "net.onnx")
    (model,) = survey(tmp_path / "net.onnx", CLAIMS)
    assert (model.name, model.chosen, versions(model)) == ("net", (1,), [(1, "")])


def test_a_policy_that_fits_no_version(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/m.onnx", "net/2/m.onnx")
    toml(tmp_path / "net", "policy = [7, 8]")
    with pytest.raises(LoadFailed) as error:
        scan(tmp_path, CLAIMS)
    assert error.value.message == ("the version policy of 'net' names 7, 8, and there is only 1, 2")


def test_versions_that_are_named_and_not_there_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "net/1/m.onnx")
    toml(tmp_path / "net", "policy = [1, 2]\n[version_labels]\nstable = 1\ncanary = 3\n")
    with caplog.at_level(logging.WARNING, "pelton.repository"):
        assert [spec.version for spec in scan(tmp_path, CLAIMS)] == [1]
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "net: the version policy names version 2, which is not there",
        "net: the version label 'canary' names version 3, which is not there",
    ]
    assert found(tmp_path)["net"].warnings == tuple(told)


@pytest.mark.parametrize("said", ["", "file = 'm.onnx'"])
def test_a_model_that_is_no_plain_file_is_not_opened(tmp_path: Path, said: str) -> None:
    tree(tmp_path, "net/1/m.onnx", "pipe/1/", "pipe/2/m.onnx", "device/1/", "folder/1/m.onnx/")
    toml(tmp_path / "pipe", said)
    toml(tmp_path / "device", said)
    os.mkfifo(tmp_path / "pipe/1/m.onnx")
    (tmp_path / "device/1/m.onnx").symlink_to("/dev/zero")
    models = found(tmp_path)
    assert [spec.version for spec in models["net"].specs()] == [1]
    assert [spec.version for spec in models["pipe"].specs()] == [2]
    assert "is no plain file; put a file there" in models["pipe"].reason(1)
    refused = "leads out of the model's folder" if said else "is no plain file"
    assert refused in models["device"].reason(1)
    assert "there is no model file in folder/1" in models["folder"].reason(1)


def test_a_folder_that_may_not_be_looked_into_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, "net/1/m.onnx", "shut/1/m.onnx")
    really = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path.is_relative_to(root / "shut/1"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    models = found(root)
    assert [spec.version for spec in models["net"].specs()] == [1]
    assert str(models["shut"].broken) == "'shut' cannot be read: Permission denied"
    assert {place.model for place in watching.look(root)} == {"net"}


def test_a_pipe_beside_what_makes_the_folder_a_model_is_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/model.py")
    os.mkfifo(tmp_path / "net/1/data.onnx")
    assert [spec.runtime for spec in found(tmp_path)["net"].specs()] == ["python"]


# One model, and one version.


def test_one_model_is_found_by_its_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "net/1/m.onnx", "net/2/m.onnx", "empty/", "file")
    tree(tmp_path, "secret/1/m.onnx")
    model = survey_one(root, "net", CLAIMS)
    assert model == found(root)["net"]
    broken = survey_one(root, "empty", CLAIMS)
    assert broken is not None
    assert broken.broken is not None
    for name in ("gone", "file", "../secret", "..", ".", "", "net/1", "a\x00b", str(root / "net")):
        assert survey_one(root, name, CLAIMS) is None


def test_a_version_elsewhere_is_looked_at_as_if_in_its_place(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "net/1/m.onnx")
    staged = toml(tree(tmp_path / "staged", "m.onnx"), "threads = 2")
    toml(root / "net", "instances = 3\npolicy = 'all'")
    spec = spec_elsewhere(root, "net", 2, staged, CLAIMS)
    assert (spec.name, spec.version, spec.path) == ("net", 2, staged / "m.onnx")
    assert spec.serving == {"instances": 3, "threads": 2}
    staged.rename(root / "net/2")
    (model,) = survey(root, CLAIMS)
    placed = model.versions[2]
    assert isinstance(placed, ModelSpec)
    assert placed == dataclasses.replace(spec, path=root / "net/2/m.onnx")


def test_a_version_elsewhere_may_be_the_first(tmp_path: Path) -> None:
    staged = tree(tmp_path / "staged", "m.onnx")
    spec = spec_elsewhere(tmp_path / "root", "net", 1, staged, CLAIMS)
    assert spec == ModelSpec("net", 1, staged / "m.onnx", "onnx")
    with pytest.raises(LoadFailed, match="there is no model file in net/1"):
        spec_elsewhere(tmp_path / "root", "net", 1, tree(tmp_path, "empty/") / "empty", CLAIMS)


def test_a_version_elsewhere_may_not_speak_for_all(tmp_path: Path) -> None:
    staged = toml(tree(tmp_path / "staged", "m.onnx"), "policy = 'all'")
    with pytest.raises(LoadFailed, match=r"net/4/model\.toml: `policy` speaks of all versions"):
        spec_elsewhere(tmp_path / "root", "net", 4, staged, CLAIMS)
