"""A server is killed before each single thing that it does to the disk, and started again.

The child process kills itself with SIGKILL right before its n-th change of the file system, for
every n until it comes through. Whoever starts next must find the old versions untouched, and the
new one whole or not at all.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pelton.repository import manifest
from pelton.repository.publishing import Publisher, published
from pelton.repository.scan import scan_versions
from pelton.repository.workplace import sweep
from repository.archives import files
from repository.folders import CLAIMS
from repository.uploads import hidden, seen, staged

CHANGES = {"open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "fcntl.flock"}
"""What the interpreter tells before it happens; opening makes files, and also comes before reading."""

CALLS = ("fsync", "write")
"""Changes of which it tells nothing."""


def killed_at(change: int, work: Callable[[], object]) -> bool:
    """Do some work in a child that kills itself before its n-th change; return whether it did."""
    child = os.fork()
    if not child:
        changes = 0

        def count(event: str, _: object = None) -> None:
            nonlocal changes
            if event in CHANGES or event in CALLS:
                changes += 1
                if changes == change:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        for name in CALLS:
            setattr(os, name, counting(name, count))
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 3)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status != 0


def counting(name: str, count: Callable[[str], None]) -> Callable[..., object]:
    call = getattr(os, name)

    def counted(*args: object) -> object:
        count(name)
        return call(*args)

    return counted


def repository(folder: Path) -> Path:
    for version, weights in ((1, b"older"), (2, b"old")):
        (folder / "old" / str(version)).mkdir(parents=True)
        (folder / "old" / str(version) / "model.onnx").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("model", "version"), [("digits", 1), ("old", 3)], ids=["first", "further"]
)
def test_a_kill_at_any_step_of_a_publish_leaves_old_or_new_whole(
    model: str, version: int, tmp_path: Path
) -> None:
    def work(root: Path) -> None:
        publisher = Publisher(root)
        one = staged(publisher, model, version)
        publisher.publish(one)
        publisher.discard(one)

    before = files(repository(tmp_path / "expected"))
    outcomes = []
    for change in range(1, 1000):
        root = repository(tmp_path / str(change))
        killed = killed_at(change, lambda root=root: work(root))

        sweep(root)
        came = published(root)
        assert came in ([], [(model, version)])
        if came:
            assert manifest.verify(root / model / str(version)).size_bytes == 16
        new = {name for name in seen(root) if name.startswith(f"{model}/{version}/")}
        assert {name: content for name, content in seen(root).items() if name not in new} == before
        assert bool(new) == bool(came)
        assert hidden(root) == {}
        assert {spec.name for spec in scan_versions(root, CLAIMS)} == {
            "old",
            *(one for one, _ in came),
        }
        republish(root, model, version, bool(came))
        outcomes.append(bool(came))
        if not killed:
            break
    assert len(outcomes) > 30
    assert outcomes == sorted(outcomes)
    assert outcomes.count(True) > 3


def republish(root: Path, model: str, version: int, came: bool) -> None:
    """Check that the next server can publish: the same version, or one more."""
    publisher = Publisher(root)
    publisher.publish(staged(publisher, model, version + came))
    publisher.close()
    assert (model, version + came) in published(root)


@pytest.mark.parametrize("only", [True, False], ids=["only_version", "one_of_several"])
def test_a_kill_at_any_step_of_setting_aside_leaves_the_version_here_or_there(
    only: bool, tmp_path: Path
) -> None:
    model, version = ("digits", 1) if only else ("old", 3)

    def work(root: Path) -> None:
        Publisher(root).quarantine(model, version)

    for change in range(1, 1000):
        root = repository(tmp_path / str(change))
        publisher = Publisher(root)
        publisher.publish(staged(publisher, model, version))
        publisher.close()

        killed = killed_at(change, lambda root=root: work(root))

        sweep(root)
        aside = [path.parent for path in root.glob(f".pelton/quarantine/*/*/*/{manifest.FILE}")]
        places = [*aside, *(root / model / str(version) for model, version in published(root))]
        assert len(places) == 1
        manifest.verify(places[0])
        assert {spec.name for spec in scan_versions(root, CLAIMS)} >= {"old"}
        if not killed:
            break
    assert aside
    assert change > 10
