"""Memory that processes share: where arrays lie in it, and what is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pelton.arena import PAGE_BYTES, Arena

SIZE = 64 * PAGE_BYTES


def held_bytes(arena: Arena) -> int:
    """How much memory the arena takes, as the system counts it."""
    return os.fstat(arena.fd).st_blocks * 512


@pytest.fixture
def arena():
    arena = Arena.create(SIZE)
    yield arena
    arena.close()


def test_it_is_made_of_zeros_and_takes_no_memory_until_it_is_touched(arena) -> None:
    assert arena.data.shape == (SIZE,)
    assert arena.data.dtype == np.uint8
    assert held_bytes(arena) == 0
    arena.data[5 * PAGE_BYTES] = 1
    assert held_bytes(arena) == PAGE_BYTES
    assert int(arena.data.sum()) == 1


def test_another_process_reads_what_was_written_and_writes_what_is_read(arena) -> None:
    arena.data[100:103] = (1, 2, 3)
    code = (
        "import sys; from pelton.arena import Arena\n"
        f"arena = Arena.attach({arena.fd}, {SIZE})\n"
        "arena.data[200] = int(arena.data[100:103].sum())\n"
    )
    subprocess.run([sys.executable, "-c", code], pass_fds=[arena.fd], check=True)
    assert arena.data[200] == 6


def test_who_may_only_read_cannot_write(arena) -> None:
    reader = Arena.attach(os.dup(arena.fd), SIZE, writable=False)
    arena.data[7] = 9
    assert reader.data[7] == 9
    with pytest.raises(ValueError, match="read-only"):
        reader.data[7] = 1
    reader.close()


def test_more_than_there_is_cannot_be_mapped(arena) -> None:
    with pytest.raises(ValueError):
        Arena.attach(arena.fd, SIZE + PAGE_BYTES)


def test_who_has_the_descriptor_cannot_take_memory_away(arena) -> None:
    with pytest.raises(OSError):
        os.ftruncate(arena.fd, 0)


@pytest.mark.parametrize("offset", [0, 1, 64, SIZE - 12])
def test_the_offset_of_an_array(arena, offset: int) -> None:
    array = np.frombuffer(arena.data.data[offset : offset + 12], np.uint8)
    assert arena.offset_of(array) == offset
    assert arena.offset_of(array.reshape(3, 4)[1:]) == offset + 4


def test_an_array_elsewhere_has_no_offset(arena) -> None:
    other = Arena.create(SIZE)
    assert arena.offset_of(np.zeros(5)) is None
    assert arena.offset_of(other.data[:10]) is None
    assert arena.offset_of(arena.data[:10][::2]) is None
    assert arena.offset_of(arena.data[:12].reshape(3, 4).T) is None
    other.close()


def test_what_is_forgotten_takes_no_memory_and_reads_as_zeros(arena) -> None:
    arena.data[:] = 1
    arena.forget(PAGE_BYTES, 3 * PAGE_BYTES)
    assert held_bytes(arena) == SIZE - 2 * PAGE_BYTES
    assert not arena.data[PAGE_BYTES : 3 * PAGE_BYTES].any()
    assert arena.data[:PAGE_BYTES].all()
    assert arena.data[3 * PAGE_BYTES :].all()


def test_only_whole_pages_are_forgotten(arena) -> None:
    arena.data[:] = 1
    arena.forget(1, 2 * PAGE_BYTES + 5)
    assert int(arena.data.sum()) == SIZE - PAGE_BYTES
    arena.forget(5, PAGE_BYTES - 1)
    assert int(arena.data.sum()) == SIZE - PAGE_BYTES


def test_views_outlive_the_arena() -> None:
    arena = Arena.create(SIZE)
    view = arena.data[10:20]
    view[:] = 3
    arena.close()
    arena.close()
    assert arena.fd == -1
    assert arena.data.size == 0
    assert view.tolist() == [3] * 10
    arena.forget(0, SIZE)  # nothing is left to forget


@pytest.mark.skipif(sys.platform != "linux", reason="lists open files as Linux does")
def test_nothing_is_open_after_it_was_closed() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    arena = Arena.create(SIZE)
    arena.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_memfd_an_arena_is_a_file_without_a_name(monkeypatch, tmp_path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arena = Arena.create(SIZE)
    assert list(tmp_path.iterdir()) == []
    other = Arena.attach(os.dup(arena.fd), SIZE)
    arena.data[5] = 1
    assert other.data[5] == 1
    arena.close()
    other.close()
