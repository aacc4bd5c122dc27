"""Uploads while they come in: bounded, hashed, and gone if they break off."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.repository.receiving import Incoming


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.part"


def test_what_came_is_kept_until_the_end_of_the_context(path: Path) -> None:
    content = random.Random(1).randbytes(300_001)
    with Incoming(path, 300_001) as incoming:
        for at in range(0, len(content), 10_000):
            incoming.write(memoryview(content)[at : at + 10_000])
        upload = incoming.finish()

        assert upload.path.read_bytes() == content
        assert upload.size_bytes == len(content)
        assert upload.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    assert not path.exists()


def test_more_than_may_come_is_refused_at_once(path: Path) -> None:
    with Incoming(path, 10) as incoming:
        incoming.write(b"12345")
        with pytest.raises(InvalidRequest, match="more than the 10 bytes") as told:
            incoming.write(b"678901")
        assert told.value.code is Code.TOO_LARGE
        assert not path.exists()


DIGEST = hashlib.sha256(b"model").hexdigest()


@pytest.mark.parametrize("expected", ["", f"sha256:{DIGEST}", f" SHA256:{DIGEST.upper()} "])
def test_a_digest_that_fits_is_taken(path: Path, expected: str) -> None:
    with Incoming(path, 10) as incoming:
        incoming.write(b"model")

        assert incoming.finish(expected).digest == f"sha256:{DIGEST}"


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (f"sha256:{DIGEST[:-1]}0", f"has the digest sha256:{DIGEST}, not"),
        (DIGEST, "is none; write sha256:"),
        ("sha512:" + DIGEST, "is none"),
        (f"sha256:{DIGEST}0", "is none"),
        ("x" * 10_000, "is none"),
    ],
)
def test_another_digest_is_refused_and_nothing_stays(path: Path, expected: str, told: str) -> None:
    with Incoming(path, 10) as incoming:
        incoming.write(b"model")
        with pytest.raises(InvalidRequest, match=told) as error:
            incoming.finish(expected)
        assert error.value.code is Code.INVALID_INPUT
        assert len(error.value.message) < 400
        assert not path.exists()


def test_nothing_is_no_upload(path: Path) -> None:
    with Incoming(path, 10) as incoming, pytest.raises(InvalidRequest, match="is empty"):
        incoming.finish()
    assert not path.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_an_upload_that_breaks_off_leaves_nothing(path: Path, share: float) -> None:
    def hang_up() -> None:
        with Incoming(path, 1 << 20) as incoming:
            incoming.write(bytes(int(share * (1 << 20))))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        hang_up()
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, Unavailable, Code.DISK_FULL),
        (errno.EDQUOT, Unavailable, Code.DISK_FULL),
        (errno.EIO, PeltonError, Code.INTERNAL),
    ],
)
def test_what_the_disk_says_is_told_and_nothing_stays(
    path: Path, number: int, kind: type[PeltonError], code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    with Incoming(path, 100) as incoming:
        incoming.write(b"first")
        monkeypatch.setattr(os, "write", refuse)
        with pytest.raises(kind, match="receiving the upload failed") as told:
            incoming.write(b"second")
    assert told.value.code is code
    assert str(path) not in told.value.message
    assert not path.exists()


def test_no_file_is_written_over(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(PeltonError, match="File exists"):
        Incoming(path, 10)
    assert path.read_bytes() == b"precious"


def test_all_is_written_however_little_the_system_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, chunk: write(file, bytes(chunk[:3])))
    with Incoming(path, 100) as incoming:
        incoming.write(b"0123456789")

        assert incoming.finish().path.read_bytes() == b"0123456789"
