"""Whichever call of the system fails: nothing is published, and the next try succeeds."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pelton.errors import Code, PeltonError
from pelton.repository import manifest
from pelton.repository.publishing import Publisher
from repository.archives import names
from repository.uploads import HIDDEN, seen, staged

OLD = {"old/1/model.onnx": b"old weights"}


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


class Failing:
    """Lets a function of the system fail at its n-th call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
        self.calls, self.fail_at, self.number = 0, 0, number
        original = getattr(os, name)

        def function(*args: object, **named: object) -> object:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(self.number, os.strerror(self.number), "/secret/path")
            return original(*args, **named)

        monkeypatch.setattr(os, name, function)

    def at(self, call: int) -> None:
        self.calls, self.fail_at = 0, call


@pytest.mark.parametrize("first", [True, False], ids=["first_version", "further_version"])
@pytest.mark.parametrize("function", ["fsync", "write", "open", "mkdir", "rename", "chmod"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_nothing_is_published_and_the_next_try_succeeds(
    root: Path,
    publisher: Publisher,
    function: str,
    number: int,
    first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, version = ("digits", 1) if first else ("old", 2)
    failing = Failing(monkeypatch, function, number)
    failing.at(0)
    attempts, refusals = 0, list[PeltonError]()
    while True:
        attempts += 1
        failing.at(attempts)
        try:
            one = staged(publisher, model, version)
            publisher.publish(one)
        except PeltonError as error:
            refusals.append(error)
            failing.at(0)
            assert seen(root) == OLD
            assert folders(root) == ["old", "old/1"]
            continue
        break
    failing.at(0)
    assert len(refusals) == attempts - 1 > 0
    codes = {error.code for error in refusals} - {Code.LOAD_FAILED}
    assert codes == {Code.DISK_FULL if number == errno.ENOSPC else Code.INTERNAL}
    assert not any("/secret/path" in error.message for error in refusals)
    assert manifest.verify(root / model / str(version)) == one.manifest


def folders(root: Path) -> list[str]:
    return [name for name in names(root) if not name.startswith(HIDDEN) and (root / name).is_dir()]
