"""A disk that is really full, and a server that is not root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pelton.errors import Code, Unavailable
from pelton.repository import manifest
from pelton.repository.publishing import Publisher, published
from pelton.repository.workplace import sweep
from repository.archives import names, tarred
from repository.uploads import hidden, seen, staged

NOBODY = 65534


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A repository on a file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if (
        os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


ARCHIVE = tarred(("model.onnx", b"w" * 300_000))


@pytest.mark.parametrize("full", ["receiving", "unpacking", "fully"])
def test_a_full_disk_leaves_nothing_and_serves_again_once_there_is_room(
    small: Path, full: str
) -> None:
    publisher = Publisher(small)
    publisher.publish(staged(publisher, "old", 1, tarred(("model.onnx", b"old"))))
    before, everything = seen(small), names(small)
    room = {"receiving": 100_000, "unpacking": 500_000, "fully": 0}[full]
    ballast = small / ".ballast"
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
    ballast.write_bytes(bytes(free - room))

    with pytest.raises(Unavailable, match="disk is full; make room") as told:
        staged(publisher, "digits", 1, ARCHIVE)
    assert told.value.code is Code.DISK_FULL
    ballast.unlink()

    assert seen(small) == before
    assert names(small) == everything
    publisher.publish(staged(publisher, "digits", 1, ARCHIVE))
    assert manifest.verify(small / "digits" / "1").size_bytes == 300_000
    publisher.close()


def as_nobody(work: Callable[[], None]) -> None:
    """Do some work in a child that has no rights but everybody's."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
        finally:
            traceback.print_exc()
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_read_only_folders_are_no_hindrance_to_a_server_that_is_not_root(open_folder: Path) -> None:
    root = open_folder
    os.chown(root, NOBODY, NOBODY)

    def work() -> None:
        publisher = Publisher(root)
        for model, version in (("digits", 1), ("digits", 2), ("other", 1)):
            one = staged(publisher, model, version)
            publisher.publish(one)
            publisher.discard(one)
        publisher.discard(staged(publisher, "digits", 3))
        publisher.quarantine("digits", 1)
        publisher.quarantine("other", 1)
        try:
            (root / "digits" / "2" / "cache.bin").touch()
        except PermissionError:
            staged(publisher, "digits", 4)
            return
        raise AssertionError("a published folder could be written to")

    as_nobody(work)
    as_nobody(lambda: assert_swept(root))

    assert published(root) == [("digits", 2)]
    assert len(list(root.glob(".pelton/quarantine/*/*/1/model.onnx"))) == 2


def assert_swept(root: Path) -> None:
    assert sweep(root) == 1
    assert all("quarantine" in name for name in hidden(root))
