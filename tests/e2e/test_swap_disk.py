"""A disk that is full: what is there goes on answering, and what comes is refused with the cure."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.swapping import asking, publish, told, versions_of
from e2e.versions import GOLDEN, onnx_bytes

MODEL_BYTES = 200_000
AFTER = 9


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a file system")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, room_bytes: int) -> Path:
    """Fill a file system up, but for so much."""
    ballast = folder / ".ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(bytes(free - room_bytes))
    return ballast


def big(version: int) -> bytes:
    """A model of some size: what follows is a field that nobody knows."""
    padding = bytes(MODEL_BYTES)
    size = len(padding)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    return onnx_bytes(version) + b"\xfa\x07" + length + padding  # field 127


@pytest.mark.parametrize(
    ("place", "room_bytes"), [("models", 0), ("models", 150_000), ("models", 300_000), ("state", 0)]
)
def test_a_full_disk_is_noticed_by_nobody_but_who_publishes(
    serve, small: Path, tmp_path: Path, place: str, room_bytes: int
) -> None:
    models, state = tmp_path / "models", tmp_path / "state"
    if place == "models":
        models = small / "models"
    else:
        state = small / "state"
    (models / "digits" / "1").mkdir(parents=True)
    (models / "digits" / "1" / "model.onnx").write_bytes(big(1))
    (models / "digits" / "model.toml").write_text(GOLDEN)
    server = serve(models, "--state-dir", str(state), "--allow-publish", ends_well=False)
    headers = {"X-Pelton-File": "model.onnx"}
    path = "/v2/repository/models/digits/versions"
    with asking(server.port, "digits") as asked:
        asked.wait_for(10)
        ballast = fill(small, room_bytes)
        for _ in range(2):
            status, reply = told(server.port, "POST", path, big(2), headers)
            assert (status, reply["code"]) == (507, "disk_full")
            assert "room" in reply["error"]
            asked.wait_for(10)
        ballast.unlink()
        assert publish(server.port, "digits", AFTER, "model.onnx", big(AFTER)) == "in service"
        asked.wait_for(10)
    assert asked.failed() == []
    assert asked.versions() == {1, AFTER}
    (row,) = [row for row in versions_of(server.port, "digits").values() if row["active"]]
    assert row["version"] == AFTER
