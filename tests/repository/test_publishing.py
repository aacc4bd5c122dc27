"""From an upload to a version: staged out of sight, published whole, and never changed again."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pelton.errors import (
    Code,
    Conflict,
    InvalidRequest,
    LoadFailed,
    NotFound,
    SettingsError,
)
from pelton.repository import manifest
from pelton.repository.manifest import FILE
from pelton.repository.publishing import Publisher, published
from pelton.repository.scan import scan, scan_versions
from repository.archives import files, names, tarred
from repository.folders import CLAIMS
from repository.uploads import HIDDEN, MODEL, hidden, seen, staged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "old" / "1").mkdir(parents=True)
    (folder / "old" / "1" / "model.onnx").write_bytes(b"old weights")
    return folder


@pytest.fixture
def publisher(root: Path) -> Iterator[Publisher]:
    publisher = Publisher(root)
    yield publisher
    publisher.close()


OLD = {"old/1/model.onnx": b"old weights"}


def test_a_published_version_is_found_whole_and_its_manifest_holds(
    root: Path, publisher: Publisher
) -> None:
    one = staged(publisher, "digits", 3)

    folder = publisher.publish(one)
    publisher.discard(one)

    assert folder == root / "digits" / "3"
    assert files(folder).keys() == {"model.onnx", "data/labels.txt", FILE}
    assert (folder / "data/none").is_dir()
    assert manifest.verify(folder) == one.manifest
    (spec,) = scan(root / "digits", CLAIMS)
    assert (spec.name, spec.version, spec.path) == ("digits", 3, folder / "model.onnx")
    assert published(root) == [("digits", 3)]
    assert hidden(root) == {}


def test_versions_come_beside_those_that_are_there(root: Path, publisher: Publisher) -> None:
    for version in (2, 10, 9):
        publisher.publish(staged(publisher, "old", version))

    assert [spec.version for spec in scan_versions(root / "old", CLAIMS)] == [1, 2, 9, 10]
    assert published(root) == [("old", 2), ("old", 9), ("old", 10)]
    assert (root / "old/1/model.onnx").read_bytes() == b"old weights"


def test_what_is_staged_can_be_loaded_and_seen_by_nobody(root: Path, publisher: Publisher) -> None:
    one = staged(publisher, "digits", 3)

    (spec,) = scan(one.folder, CLAIMS)
    assert (spec.name, spec.version, spec.path) == ("digits", 3, one.folder / "model.onnx")
    assert manifest.verify(one.folder) == one.manifest
    assert [spec.name for spec in scan(root, CLAIMS)] == ["old"]
    assert published(root) == []


def test_published_files_and_folders_are_read_only(publisher: Publisher) -> None:
    folder = publisher.publish(staged(publisher, "digits", 1))

    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o555 if path.is_dir() else 0o444)


def test_all_is_on_the_disk_before_and_the_names_right_after_it_is_seen(
    root: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    not_flushed: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_flush(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def check_flushed(one: Path, other: Path) -> None:
        paths = (one, *Path(one).rglob("*"))
        not_flushed.extend(str(path) for path in paths if path.stat().st_ino not in flushed)
        flushed.clear()
        rename(one, other)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "rename", check_flushed)
    for model, version in (("digits", 1), ("digits", 2)):
        folder = publisher.publish(staged(publisher, model, version))

        assert not_flushed == []
        assert {path.stat().st_ino for path in (folder, folder.parent, root)} <= set(flushed)


def test_a_single_file_is_a_version_by_its_name(publisher: Publisher) -> None:
    folder = publisher.publish(staged(publisher, "digits", 1, b"\x08\x07weights", "model.onnx"))

    assert files(folder)["model.onnx"] == b"\x08\x07weights"
    assert list(manifest.verify(folder).files) == ["model.onnx"]


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "a/model.onnx", "/model.onnx", ".", "..", ".hidden", FILE, "x" * 256, "a\0b"],
)
def test_a_single_file_needs_a_plain_name(root: Path, publisher: Publisher, name: str) -> None:
    with pytest.raises(InvalidRequest):
        staged(publisher, "digits", 1, b"weights", name)
    assert files(root).keys() == OLD.keys() | {
        name for name in files(root) if name.endswith("/lock")
    }


def test_a_zip_is_a_model_only_by_its_name(publisher: Publisher) -> None:
    with pytest.raises(InvalidRequest, match="say its file's name") as told:
        staged(publisher, "digits", 1, b"PK\x03\x04program")
    assert told.value.code is Code.UNSUPPORTED_MEDIA

    assert (
        staged(publisher, "digits", 1, b"PK\x03\x04program", "model.pt2").manifest.size_bytes == 11
    )


def test_a_version_that_is_there_is_not_touched(root: Path, publisher: Publisher) -> None:
    publisher.publish(staged(publisher, "digits", 1))
    before = seen(root)
    other = tarred(("model.onnx", b"other weights"))

    for model in ("digits", "old"):
        one = staged(publisher, model, 1, other)
        with pytest.raises(Conflict, match="has a version 1 already"):
            publisher.publish(one)
        with pytest.raises(Conflict, match="publish a new one"):
            publisher.check_free(model, 1)
        publisher.discard(one)

    assert seen(root) == before
    assert hidden(root) == {}


def test_of_two_at_once_one_becomes_the_version(root: Path, publisher: Publisher) -> None:
    rivals = [
        staged(publisher, "digits", 1, tarred(("model.onnx", b"%d" % number)))
        for number in range(8)
    ]
    told: list[str] = []
    start = threading.Barrier(len(rivals))

    def publish(number: int) -> None:
        start.wait()
        try:
            publisher.publish(rivals[number])
            told.append(str(number))
        except Conflict:
            told.append("conflict")

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(len(rivals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told.count("conflict") == len(rivals) - 1
    (winner,) = set(told) - {"conflict"}
    assert seen(root)["digits/1/model.onnx"] == winner.encode()
    manifest.verify(root / "digits/1")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "...",
        "..my_model",
        "a/b",
        "a/../b",
        "../a",
        "/a",
        "a\\b",
        " a",
        "a ",
        " ..",
        ".. ",
        "a\n",
        "a\0",
        "ä",
        "-a",
        "_a",
        "x" * 129,
        "12",
        "٣",
    ],
)
def test_names_that_are_none_are_refused_before_any_path_is_made(
    root: Path, publisher: Publisher, name: str
) -> None:
    before = names(root)
    with publisher.receive(1 << 20) as incoming:
        incoming.write(MODEL)
        upload = incoming.finish()
        for refuse in (
            lambda: publisher.check_free(name, 1),
            lambda: publisher.stage(upload, name, 1),
            lambda: publisher.quarantine(name, 1),
        ):
            with pytest.raises(InvalidRequest, match="is no name for a model") as told:
                refuse()
            assert told.value.code is Code.INVALID_INPUT
    assert names(root) == before


@pytest.mark.parametrize("version", [0, -1, 1_000_000_000, 1 << 70])
def test_versions_that_are_none_are_refused(publisher: Publisher, version: int) -> None:
    with pytest.raises(InvalidRequest, match="is no version"):
        publisher.check_free("digits", version)


def test_a_model_without_versions_stays_as_it_is(root: Path, publisher: Publisher) -> None:
    (root / "flat").mkdir()
    (root / "flat" / "model.onnx").write_bytes(b"flat")
    (root / "file").write_bytes(b"")

    with pytest.raises(Conflict, match="move its files into flat/1 first"):
        publisher.publish(staged(publisher, "flat", 2))
    with pytest.raises(Conflict, match="a file has that name"):
        publisher.publish(staged(publisher, "file", 2))

    assert {"flat/model.onnx", "file"} < seen(root).keys()
    scan(root / "flat", CLAIMS)


@pytest.mark.parametrize("beside", ["model.toml", "config.pbtxt", ".DS_Store"])
def test_a_model_of_which_only_the_settings_are_there_gets_its_first_version(
    root: Path, publisher: Publisher, beside: str
) -> None:
    (root / "digits").mkdir()
    (root / "digits" / beside).write_text("")

    publisher.publish(staged(publisher, "digits", 1))

    assert seen(root).keys() == OLD.keys() | {
        f"digits/{beside}", "digits/1/model.onnx", "digits/1/data/labels.txt", f"digits/1/{FILE}"
    }  # fmt: skip


BAD_UPLOADS = {
    "gzip": b"\x1f\x8b\x08\x00" + bytes(600),
    "no_archive": b"?" * 600,
    "cut_off": MODEL[:700],
    "late_bad_entry": tarred(("model.onnx", b"x" * 4000), ("../evil", b"")),
    "no_files": tarred(("a", None)),
}


@pytest.mark.parametrize("upload", BAD_UPLOADS.values(), ids=BAD_UPLOADS)
def test_a_bad_upload_leaves_nothing(root: Path, publisher: Publisher, upload: bytes) -> None:
    before = names(root)

    with pytest.raises(InvalidRequest):
        staged(publisher, "digits", 1, upload)

    assert names(root) == before


def test_discarding_removes_read_only_folders_too_and_may_be_done_again(
    root: Path, publisher: Publisher
) -> None:
    before = names(root)
    one = staged(publisher, "digits", 1)
    assert names(root) != before

    publisher.discard(one)
    publisher.discard(one)

    assert names(root) == before


@pytest.mark.parametrize("change", ["changed", "added"])
def test_what_its_own_code_changed_while_it_was_tried_is_not_published(
    root: Path, publisher: Publisher, change: str
) -> None:
    one = staged(publisher, "digits", 1)
    for path in (one.folder, one.folder / "model.onnx"):
        path.chmod(0o755)
    (one.folder / ("model.onnx" if change == "changed" else "cache.bin")).write_bytes(b"own")

    with pytest.raises(LoadFailed, match=f"digits/1: the file '.*' was {change}"):
        publisher.publish(one)

    assert seen(root) == OLD


def test_a_version_is_set_aside_whole(root: Path, publisher: Publisher) -> None:
    publisher.publish(staged(publisher, "old", 2))
    content = files(root / "old/2")

    aside = publisher.quarantine("old", 2)

    assert seen(root) == OLD
    assert files(aside) == content
    assert aside.is_relative_to(root / HIDDEN)
    assert published(root) == []
    with pytest.raises(NotFound, match="old has no version 2"):
        publisher.quarantine("old", 2)


def test_the_only_version_takes_the_models_folder_along(root: Path, publisher: Publisher) -> None:
    publisher.publish(staged(publisher, "digits", 1))

    aside = publisher.quarantine("digits", 1)

    assert manifest.verify(aside).files
    assert {path.name for path in root.iterdir()} == {"old", HIDDEN}
    assert [spec.name for spec in scan(root, CLAIMS)] == ["old"]
    publisher.publish(staged(publisher, "digits", 1))
    publisher.quarantine("digits", 1)


def test_only_versions_with_a_manifest_count_as_published(root: Path, publisher: Publisher) -> None:
    publisher.publish(staged(publisher, "old", 2))
    for name in ("old/x", "old/²", "old/07", "äöü/1", "a b/1"):
        (root / name).mkdir(parents=True)
        (root / name / FILE).touch()
    staged(publisher, "digits", 7)

    assert published(root) == [("old", 2)]


def test_a_single_models_folder_is_no_repository(root: Path) -> None:
    with pytest.raises(
        SettingsError, match="holds the version 1; to publish, serve the folder above"
    ):
        Publisher(root / "old")


def test_what_cannot_be_a_repository_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Publisher(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="Not a directory"):
        Publisher(tmp_path / "file")


def test_closing_removes_what_was_not_published(root: Path, publisher: Publisher) -> None:
    staged(publisher, "digits", 1)
    publisher.publish(staged(publisher, "old", 2))

    publisher.close()
    publisher.close()

    assert hidden(root) == {}
    assert published(root) == [("old", 2)]
