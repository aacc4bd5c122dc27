"""The digest of a version depends on its files' names and bytes, on all of them, and on nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository import manifest
from pelton.repository.manifest import FILE, FileRecord, Manifest

LABELS = b"null\neins\n"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "digits" / "1"
    (folder / "data").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "data" / "labels.txt").write_bytes(LABELS)
    return folder


def published(version: Path) -> Manifest:
    found = manifest.measure(version)
    manifest.write(version, found)
    return found


def test_the_text_is_canonical(version: Path) -> None:
    (version / "é").write_bytes(b"")
    (version / "z").write_bytes(b"")
    expected = (
        "pelton-manifest-1\n"
        f"{_sha(LABELS)} 10 data/labels.txt\n"
        f"{_sha(b'weights')} 7 model.onnx\n"
        f"{_sha(b'')} 0 z\n"
        f"{_sha(b'')} 0 é\n"
    )

    found = manifest.measure(version)

    assert found.text == expected
    assert found.digest == "sha256:" + _sha(expected.encode())
    assert found.size_bytes == 17


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_digest_is_pinned() -> None:
    one = Manifest({"model.onnx": FileRecord(7, "ab" * 32)})

    assert one.digest == "sha256:" + _sha(b"pelton-manifest-1\n" + b"ab" * 32 + b" 7 model.onnx\n")


def test_dates_modes_and_empty_folders_do_not_count(version: Path) -> None:
    before = published(version)
    os.utime(version / "model.onnx", (1, 1))
    (version / "model.onnx").chmod(0o444)
    (version / "empty").mkdir()

    assert manifest.verify(version) == before
    assert manifest.measure(version) == before
    assert manifest.read(version) == before


def renamed(version: Path) -> None:
    (version / "model.onnx").rename(version / "model.pt2")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (
        lambda one: (one / "model.onnx").write_bytes(b"Weights"),
        "'model.onnx' was changed",
    ),
    "longer": (
        lambda one: (one / "model.onnx").write_bytes(b"weights!"),
        "'model.onnx' was changed",
    ),
    "missing": (lambda one: (one / "model.onnx").unlink(), "'model.onnx' is missing"),
    "added": (lambda one: (one / "data/a.txt").touch(), "'data/a.txt' was added"),
    "hidden": (lambda one: (one / ".hidden").touch(), "'.hidden' was added"),
    "bytecode": (
        lambda one: (one / "__pycache__").mkdir() or (one / "__pycache__/m.pyc").touch(),
        "m.pyc' was added",
    ),
    "renamed": (renamed, "'model.onnx' is missing"),
    "inner_manifest": (lambda one: (one / "data" / FILE).touch(), "was added"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_the_first_file_that_differs_is_named(
    version: Path, change: Callable[[Path], object], told: str
) -> None:
    published(version)
    change(version)

    with pytest.raises(LoadFailed, match=told) as error:
        manifest.verify(version, "digits/1")
    assert error.value.message.startswith("digits/1: ")
    assert str(version) not in error.value.message


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("model.onnx"), pipe, listening],
    ids=["link", "pipe", "socket"],
)
@pytest.mark.parametrize("name", ["special", "data/special"])
def test_links_and_special_files_are_refused(
    version: Path, make: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(version)
    monkeypatch.chdir(version)
    make(Path(name))

    for check in (manifest.measure, manifest.verify):
        with pytest.raises(LoadFailed, match=f"'{name}' is a link or no regular file"):
            check(version)


def test_a_link_to_a_folder_is_refused(version: Path) -> None:
    (version / "other").symlink_to("data")

    with pytest.raises(LoadFailed, match="'other' is a link"):
        manifest.measure(version)


def test_the_folder_itself_may_be_reached_by_a_link(version: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(version)

    assert manifest.measure(tmp_path / "link") == manifest.measure(version)
    assert manifest.measure(version).files


@pytest.mark.parametrize("folder", ["none", "model.onnx"])
def test_what_is_no_folder_has_no_manifest(version: Path, folder: str) -> None:
    with pytest.raises(LoadFailed, match=f"{folder} is no folder"):
        manifest.measure(version / folder)


@pytest.mark.parametrize("name", [b"a\nb", b"\xff"])
def test_names_that_no_line_can_hold_are_refused(version: Path, name: bytes) -> None:
    try:
        (version / os.fsdecode(name)).touch()
    except OSError:
        pytest.skip("this file system takes no such name")

    with pytest.raises(LoadFailed, match="cannot be printed"):
        manifest.measure(version)


def test_a_folder_without_a_manifest_is_told_apart(version: Path) -> None:
    assert manifest.read(version) is None
    with pytest.raises(LoadFailed, match="digits/1 has no manifest"):
        manifest.verify(version, "digits/1")


BROKEN: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "no_json": lambda text: text[:-5],
    "number": lambda _: "7",
    "null": lambda _: "null",
    "deep": lambda _: "[" * 100_000,
    "other_format": lambda text: text.replace("manifest-1", "manifest-2"),
    "no_digest": lambda text: text.replace('"digest"', '"digits"'),
    "other_digest": lambda text: text.replace("sha256:", "sha256:0"),
    "file_left_out": lambda text: json.dumps({**json.loads(text), "files": []}),
    "size": lambda text: text.replace(": 7,", ": 8,"),
    "size_as_text": lambda text: text.replace(": 7,", ': "7",'),
    "surrogate": lambda text: text.replace("model.onnx", "\\ud800"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest_is_refused(version: Path, change: Callable[[str], str]) -> None:
    published(version)
    before = (version / FILE).read_text()
    (version / FILE).write_text(change(before))

    with pytest.raises(LoadFailed, match=r"its manifest (is broken|was changed); publish"):
        manifest.read(version)


def test_a_manifest_that_is_a_link_or_a_folder_is_refused(version: Path) -> None:
    (version / FILE).symlink_to("/etc/passwd")
    with pytest.raises(LoadFailed, match="manifest cannot be read"):
        manifest.read(version)
    (version / FILE).unlink()
    (version / FILE).mkdir()
    with pytest.raises(LoadFailed, match="cannot be read"):
        manifest.read(version)


def test_a_manifest_is_never_written_over(version: Path) -> None:
    found = published(version)
    with pytest.raises(FileExistsError):
        manifest.write(version, found)
