"""A file that is locked, full, read-only, or whose writer dies."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.state.sqlite import examine, file_url
from pelton.state.state import State
from services.databases import change

WRITE = """
import itertools, sys
from pelton.records import Change, Key
from pelton.state.state import State
state = State.open(sys.argv[1])
for n in itertools.count():
    key = Key(f"k{n}", n.to_bytes(32, "big"), "", frozenset(), 1.0)
    state.keys.add(key, Change(1.0, "local", "keys.create", key.id, None, {"filler": "x" * 3000}))
    print(key.id, flush=True)
"""


@pytest.mark.parametrize("writes", [1, 7, 60])
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path, writes: int) -> None:
    command = [sys.executable, "-c", WRITE, file_url(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline().strip() for _ in range(writes)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read().split()
    state = State.open(file_url(tmp_path))
    assert state.database.read(examine) == ""
    kept = {key.id for key in state.keys.list()}
    audited = [row.change.subject for row in state.audit.list(limit=10_000)]
    assert set(told) <= kept == set(audited)
    assert len(audited) == len(kept) == state.keys.generation()
    assert state.writable()
    state.close()


def test_a_file_that_is_locked_for_too_long_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    state = State.open(file_url(tmp_path), wait_s=0.05)
    other = sqlite3.connect(tmp_path / "pelton.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE").close()
    with pytest.raises(Unavailable, match="busy; try again later") as refusal:
        state.audit.append(change())
    assert (refusal.value.code, refusal.value.retry_after_s) == (Code.UNAVAILABLE, 1.0)
    assert not state.writable()
    assert state.audit.list() == []  # reading goes on
    other.execute("ROLLBACK").close()
    other.close()
    assert state.writable()
    state.audit.append(change())
    assert len(state.audit.list()) == 1
    state.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_taken_away_takes_no_changes_until_it_is_back(
    tmp_path: Path, replaced: bool
) -> None:
    """What would be written to the open file is gone when the server ends."""
    state = State.open(file_url(tmp_path))
    state.audit.append(change(subject="before"))
    file, away = tmp_path / "pelton.db", tmp_path / "away"
    file.rename(away)
    if replaced:
        shutil.copy(away, file)
    for use in (lambda: state.audit.append(change()), state.audit.list, state.generations):
        with pytest.raises(Unavailable, match="removed or replaced while the server ran") as told:
            use()
        assert "restore the file, and restart the server" in told.value.message
    assert not state.writable()
    state.database.close()  # so that the next one needs a new connection
    assert not state.writable()
    assert file.exists() is replaced, "a new one would be empty, and taken for ours"
    away.rename(file)
    assert state.writable()
    assert [row.change.subject for row in state.audit.list()] == ["before"]
    state.close()


def test_a_writer_has_the_file_to_itself_from_its_first_look(tmp_path: Path) -> None:
    """Else two that look before they write would be in each other's way, and one would fail."""
    state = State.open(file_url(tmp_path))
    other = sqlite3.connect(tmp_path / "pelton.db", isolation_level=None, timeout=0)

    def other_begins(_connection) -> bool:
        try:
            other.execute("BEGIN IMMEDIATE").close()
        except sqlite3.OperationalError:
            return False
        other.execute("ROLLBACK").close()
        return True

    assert state.database.read(other_begins)
    assert not state.database.write(other_begins)
    other.close()
    state.close()


def test_a_message_names_no_path_and_no_value(tmp_path: Path) -> None:
    secret = "told to nobody"
    state = State.open(file_url(tmp_path), wait_s=0.05)
    state.database.write(lambda c: c.exec_driver_sql("DROP TABLE swaps"))
    with pytest.raises(PeltonError, match="refused a statement") as refusal:
        state.versions.list_swaps()
    assert str(tmp_path) not in str(refusal.value)
    assert "swaps" not in str(refusal.value)
    with pytest.raises(PeltonError, match="refused a statement") as refusal:
        state.versions.list_swaps(secret)
    assert secret not in "".join(traceback.format_exception(refusal.value))  # as in the log
    state.close()


def test_a_number_that_no_column_can_hold_is_refused(tmp_path: Path) -> None:
    state = State.open(file_url(tmp_path))
    with pytest.raises(InvalidRequest, match="out of range"):
        state.audit.list(before=10**30)
    state.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root may mount a small disk, on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_up(disk: Path) -> Path:
    """Leave no byte free on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def test_a_full_disk_is_told_and_nothing_is_torn(small_disk: Path) -> None:
    state = State.open(file_url(small_disk))
    state.audit.append(change(subject="before"))
    ballast = fill_up(small_disk)
    wordy = change(subject="while full", after={"filler": "x" * 60_000})
    with pytest.raises(Unavailable, match="no room left") as refusal:
        state.audit.append(wordy)
    assert (refusal.value.code, refusal.value.retry_after_s) == (Code.DISK_FULL, 60.0)
    assert [row.change.subject for row in state.audit.list()] == ["before"]
    ballast.unlink()
    assert state.writable()
    state.audit.append(change(subject="after"))
    state.close()
    again = State.open(file_url(small_disk))
    assert [row.change.subject for row in again.audit.list()] == ["after", "before"]
    again.close()


def test_a_server_does_not_start_on_a_full_disk(small_disk: Path) -> None:
    ballast = fill_up(small_disk)
    with pytest.raises(Unavailable, match=r"cannot be used: .*no room left") as refusal:
        State.open(file_url(small_disk))
    assert refusal.value.code == Code.DISK_FULL
    ballast.unlink()
    State.open(file_url(small_disk)).close()
