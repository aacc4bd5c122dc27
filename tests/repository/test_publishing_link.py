"""A version that was loaded before it was published is found where it lay, for as long as needed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pelton.errors import Unavailable
from pelton.repository.publishing import Publisher, published
from repository.uploads import staged


def test_where_a_version_lay_leads_to_where_it_lies(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for version in (1, 2):
        one = staged(publisher, "digits", version)
        folder = publisher.publish(one)
        assert one.folder.is_symlink()
        assert one.folder.resolve() == folder
        assert (one.folder / "model.onnx").read_bytes() == b"new weights"
        publisher.discard(one)
        assert not one.folder.is_symlink()
        assert (folder / "model.onnx").read_bytes() == b"new weights", "only the link is removed"
    one = staged(publisher, "digits", 3)
    publisher.publish(one)
    publisher.close()
    assert (tmp_path / "digits/3/model.onnx").read_bytes() == b"new weights"
    assert not one.folder.is_symlink()


def test_a_link_that_cannot_be_made_takes_the_version_out(tmp_path: Path, monkeypatch) -> None:
    publisher = Publisher(tmp_path)
    for version in (1, 2):
        one = staged(publisher, "digits", version)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "symlink_to", failing)
            with pytest.raises(Unavailable, match="disk is full"):
                publisher.publish(one)
        assert not (tmp_path / "digits" / str(version)).exists()
        publisher.discard(one)
        publisher.publish(staged(publisher, "digits", version))
    assert published(tmp_path) == [("digits", 1), ("digits", 2)]


def failing(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
