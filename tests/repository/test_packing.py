"""What `pelton push` sends: the same bytes for the same files, and what the server takes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pelton.errors import InvalidRequest
from pelton.repository.packing import pack
from repository.archives import unpacked

FILES = {
    "model.onnx": b"weights" * 100_000,
    "model.toml": b"",
    "data/" + "long-" * 30 + "/Größe.txt": b"1",
    "data/exact.bin": b"x" * 1024,
    "onnx::MatMul_12": b"2",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return laid(tmp_path / "digits", FILES)


def laid(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_was_packed_comes_out(model: Path, tmp_path: Path) -> None:
    package = pack(model)
    archive = b"".join(package.chunks())

    assert len(archive) == package.size_bytes
    assert package.digest() == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert unpacked(archive, tmp_path / "out") == dict(sorted(FILES.items()))


def test_the_same_files_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    again = laid(tmp_path / "again", dict(reversed(FILES.items())))
    for path in again.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)

    assert pack(again).digest() == pack(model).digest()


def test_a_single_file_may_be_packed(tmp_path: Path) -> None:
    laid(tmp_path, {"blobs/5f2a": b"weights"})
    (tmp_path / "model.onnx").symlink_to("blobs/5f2a")

    archive = b"".join(pack(tmp_path / "model.onnx").chunks())

    assert unpacked(archive, tmp_path / "out") == {"model.onnx": b"weights"}


def test_what_is_hidden_or_compiled_stays_here(model: Path, tmp_path: Path) -> None:
    laid(
        model,
        {".git/HEAD": b"", ".pelton-manifest.json": b"", "__pycache__/m.pyc": b"", "data/.x": b""},
    )

    assert unpacked(b"".join(pack(model).chunks()), tmp_path / "out").keys() == FILES.keys()


def test_progress_is_told_up_to_the_end(model: Path) -> None:
    told: list[int] = []
    package = pack(model)

    sizes = [len(chunk) for chunk in package.chunks(told.append)]

    assert told == [sum(sizes[: end + 1]) for end in range(len(sizes))]
    assert told[-1] == package.size_bytes


def test_a_folder_of_versions_is_refused_with_the_cure(tmp_path: Path) -> None:
    laid(tmp_path, {"2/model.onnx": b"", "10/model.onnx": b""})

    with pytest.raises(InvalidRequest, match=r"name the one to send, such as .*/10$"):
        pack(tmp_path)


def test_what_no_server_would_take_is_refused_here(model: Path) -> None:
    (model / "soft").symlink_to("model.onnx")
    with pytest.raises(InvalidRequest, match="'soft' is a link"):
        pack(model)
    (model / "soft").unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(InvalidRequest, match="'pipe' is no regular file"):
        pack(model)
    (model / "pipe").unlink()
    (model / "a\\b").touch()
    with pytest.raises(InvalidRequest, match="backslash"):
        pack(model)


def test_nothing_to_pack_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no files"):
        pack(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        pack(tmp_path / "none")


@pytest.mark.parametrize("content", [b"shorter", b"longer" * 200_000])
def test_a_file_that_changes_while_it_is_packed_is_told(model: Path, content: bytes) -> None:
    package = pack(model)
    (model / "model.onnx").write_bytes(content)

    with pytest.raises(InvalidRequest, match=r"model.onnx changed while it was packed"):
        list(package.chunks())


def test_a_file_that_goes_away_is_told(model: Path) -> None:
    package = pack(model)
    (model / "model.onnx").unlink()

    with pytest.raises(InvalidRequest, match="cannot be read"):
        package.digest()
