"""Archives as people make them come out as they should."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from pelton.errors import Code, InvalidRequest
from pelton.repository.archive import Kind, check_is_tar, kind_of, survey
from repository.archives import END, entry, header, names, pax, tarred, unpacked

LONG = "a-folder-with-a-long-name/" * 8 + "model.onnx"
NAMED = [
    "model.onnx",
    "weights/layer 1.bin",
    "onnx::MatMul_12",
    "Größe.bin",
    "模型.onnx",
    LONG,
    "x" * 255,
]


@pytest.mark.parametrize("written", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", NAMED)
def test_names_of_every_kind_come_out_of_every_format(
    written: int, name: str, tmp_path: Path
) -> None:
    try:
        archive = tarred(("model.toml", b""), (name, b"weights"), format=written)
    except ValueError:
        assert written == tarfile.USTAR_FORMAT
        assert len(name) > 100
        return

    assert unpacked(archive, tmp_path / "out")[name] == b"weights"


def test_contents_and_empty_folders_come_out_whole(tmp_path: Path) -> None:
    sizes = {
        f"{size}.bin": bytes([size % 251]) * size
        for size in (0, 1, 511, 512, 513, 1 << 20, 3_000_001)
    }
    archive = tarred(*sizes.items(), ("assets", None), ("assets/empty", None))

    assert unpacked(archive, tmp_path / "out") == sizes
    assert (tmp_path / "out/assets/empty").is_dir()


def test_nothing_but_names_and_bytes_comes_out(tmp_path: Path) -> None:
    archive = entry(b"run.sh", b"#!", mode=0o755) + header(b"kept/", kind=b"5", mode=0o2777) + END

    unpacked(archive, tmp_path / "out")

    assert stat.S_IMODE((tmp_path / "out/run.sh").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "out/kept").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "packed",
    [
        ["model.onnx", "data/x"],
        ["./model.onnx", "./data/x"],
        ["digits/model.onnx", "digits/data/x"],
        ["./digits/1/model.onnx", "./digits/1/data/x"],
    ],
)
def test_folders_around_the_model_are_left_out(packed: list[str], tmp_path: Path) -> None:
    archive = tarred(*((name, name.encode()) for name in packed))

    assert list(unpacked(archive, tmp_path / "out")) == ["data/x", "model.onnx"]


def test_folders_around_the_model_may_be_entries_themselves(tmp_path: Path) -> None:
    archive = tarred(
        (".", None), ("digits", None), ("digits/1", None), ("digits/1/model.onnx", b"")
    )

    assert list(unpacked(archive, tmp_path / "out")) == ["model.onnx"]


def test_a_folder_beside_the_model_keeps_the_folder_around_both(tmp_path: Path) -> None:
    unpacked(tarred(("a/b/model.onnx", b""), ("a/c", None)), tmp_path / "out")

    assert names(tmp_path / "out") == ["b", "b/model.onnx", "c"]


def test_what_macos_adds_and_an_old_manifest_are_left_out(tmp_path: Path) -> None:
    archive = tarred(
        ("._digits", b"extended attributes"),
        ("digits/._model.onnx", b"extended attributes"),
        ("digits/.DS_Store", b"window"),
        ("digits/.pelton-manifest.json", b"{}"),
        ("digits/model.onnx", b"weights"),
    )

    assert unpacked(archive, tmp_path / "out") == {"model.onnx": b"weights"}


@pytest.mark.parametrize(
    "archive",
    [header(size=b"\x80" + (9 << 30).to_bytes(11)), pax([(b"size", b"%d" % (9 << 30))]) + header()],
    ids=["gnu", "pax"],
)
def test_a_file_above_8_gib_is_read_in_both_forms_of_its_size(
    archive: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "large.tar"
    path.write_bytes(archive)
    size = len(archive) + (9 << 30) + len(END)
    with path.open("r+b") as file:
        file.truncate(size)  # takes no room on the disk

        (found,) = survey(file, size)

    assert (found.size_bytes, found.offset) == (9 << 30, len(archive))


@pytest.mark.skipif(shutil.which("tar") is None, reason="the command tar is not installed")
@pytest.mark.parametrize("written", ["ustar", "gnu", "posix", "v7"])
def test_archives_of_the_command_tar_come_out(written: str, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    (folder / "data" / "none").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights" * 1000)
    (folder / "data" / "labels.txt").write_text("null\neins\n")
    archive = tmp_path / "model.tar"
    subprocess.run(
        ["tar", f"--format={written}", "-cf", archive, "-C", tmp_path, "digits"], check=True
    )

    found = unpacked(archive.read_bytes(), tmp_path / "out")

    assert found == {"model.onnx": b"weights" * 1000, "data/labels.txt": b"null\neins\n"}
    assert (tmp_path / "out/data/none").is_dir()


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (header(), Kind.TAR),
        (header(magic=b""), Kind.TAR),
        (bytes(512), Kind.TAR),
        (b"\x1f\x8b\x08\x00", Kind.COMPRESSED),
        (b"BZh91AY&SY", Kind.COMPRESSED),
        (b"\xfd7zXZ\x00", Kind.COMPRESSED),
        (b"\x28\xb5\x2f\xfd", Kind.COMPRESSED),
        (b"PK\x03\x04", Kind.ZIP),
        (b"\x08\x07\x12\x07pytorch", Kind.OTHER),
        (b"", Kind.OTHER),
        (bytes(511), Kind.OTHER),
    ],
)
def test_first_bytes_tell_the_kind(first: bytes, kind: Kind) -> None:
    assert kind_of(first) is kind


@pytest.mark.parametrize(
    ("first", "cure"),
    [
        (b"\x1f\x8b", "is compressed; send it"),
        (b"PK\x03\x04", "is a zip; send a tar"),
        (b"?" * 512, "is no tar; send"),
    ],
)
def test_what_is_no_tar_is_refused_with_the_cure(first: bytes, cure: str) -> None:
    with pytest.raises(InvalidRequest, match=cure) as told:
        check_is_tar(first)
    assert told.value.code is Code.UNSUPPORTED_MEDIA
