"""Regions of clients' shared memory: what may be registered, found, read and written."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import psutil
import pytest

from client_memory import client_memory
from pelton.errors import Code, InvalidRequest, NotFound
from pelton.servers import shared_regions
from pelton.servers.origin import Origin
from pelton.servers.shared_regions import SharedRegions
from pelton.wire.oip_regions import Place

SIZE = 10_000
CONTENT = bytes(index % 251 for index in range(SIZE))
LARGEST = 2**63 - 1


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with client_memory(SIZE) as made:
        made.buf[:SIZE] = CONTENT
        yield made


@pytest.fixture
def regions() -> SharedRegions:
    return SharedRegions(for_all=True)


def refusal(function, *arguments) -> str:
    with pytest.raises(InvalidRequest) as caught:
        function(*arguments)
    assert len(caught.value.message) < 400
    assert caught.value.code is Code.INVALID_INPUT
    return caught.value.message


# -- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("for_all", "same_user", "may"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
def test_regions_are_open_to_the_own_user_or_to_all(for_all, same_user, may) -> None:
    regions = SharedRegions(for_all)
    assert regions.open_to(Origin(0.0, same_user)) is (regions if may else None)


# -- registering ---------------------------------------------------------------------------------


def test_a_region_is_registered_listed_and_forgotten(regions, memory) -> None:
    regions.register("a", memory.name, 0, SIZE)
    regions.register("b", "/" + memory.name, 4100, 64)
    a = {"name": "a", "key": memory.name, "offset": 0, "byte_size": SIZE}
    b = {"name": "b", "key": "/" + memory.name, "offset": 4100, "byte_size": 64}
    assert regions.status(None) == [a, b]
    assert regions.status("b") == [b]
    assert regions.total_bytes == SIZE + 64
    regions.unregister("a")
    regions.unregister("never was")
    assert regions.status(None) == [b]
    assert regions.total_bytes == 64
    with pytest.raises(NotFound, match="no shared memory region 'a' is registered"):
        regions.status("a")
    regions.register("a", memory.name, 0, SIZE)
    regions.unregister(None)
    assert (regions.status(None), regions.total_bytes) == ([], 0)


def test_a_name_is_registered_once(regions, memory) -> None:
    regions.register("x", memory.name, 0, 8)
    told = refusal(regions.register, "x", memory.name, 8, 8)
    assert told == "shared memory region 'x' already in manager"
    assert regions.status("x")[0]["offset"] == 0


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00b", "a\nb", "\ud800", "a\u202eb"])
def test_names_that_are_none(regions, memory, name: str) -> None:
    assert "is no name" in refusal(regions.register, name, memory.name, 0, 8)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "//a",
        "../x",
        "/../x",
        "..",
        ".",
        "a/b",
        "/a/b",
        "a/../b",
        "/dev/shm/x",
        "x" * 251,
        "a\x00b",
        "a b",
        "a\n",
        "caf\xe9",
        "\ud800",
        "triton_python_backend_shm_region_1",
        "/triton_x",
    ],
)
def test_keys_that_are_none(regions, key: str) -> None:
    assert "names no shared memory object" in refusal(regions.register, "r", key, 0, 8)
    assert regions.status(None) == []


def test_an_object_that_is_not_there(regions) -> None:
    told = refusal(regions.register, "r", "pelton-nobody-made-this", 0, 8)
    reason = os.strerror(errno.ENOENT)
    assert told == f"cannot open the shared memory object 'pelton-nobody-made-this': {reason}"


@pytest.mark.skipif(sys.platform != "linux", reason="objects are files only there")
def test_what_is_no_object_of_ours_is_not_followed(regions, memory, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    key = memory.name + "-link"
    link = Path("/dev/shm") / key
    link.symlink_to(secret)
    try:
        assert "cannot open" in refusal(regions.register, "r", key, 0, 8)
    finally:
        link.unlink()
    os.mkfifo(link)
    try:
        assert "which has 0 bytes" in refusal(regions.register, "r", key, 0, 8)
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, SIZE + 1), (1, SIZE), (SIZE, 1), (LARGEST, 1), (1, LARGEST), (2**62, 8), (4096, SIZE)],
)
def test_a_region_lies_within_its_object(regions, memory, offset: int, size: int) -> None:
    told = refusal(regions.register, "r", memory.name, offset, size)
    assert "not within the object" in told or "at most" in told
    assert (regions.status(None), regions.total_bytes) == ([], 0)


def test_an_empty_region_is_none(regions, memory) -> None:
    assert "is empty" in refusal(regions.register, "r", memory.name, 0, 0)


def test_regions_are_bounded_in_number_and_size(regions, memory, monkeypatch) -> None:
    monkeypatch.setattr(shared_regions, "MAX_REGIONS", 2)
    monkeypatch.setattr(shared_regions, "MAX_TOTAL_BYTES", 100)
    regions.register("a", memory.name, 0, 60)
    assert "of 100 bytes in all" in refusal(regions.register, "b", memory.name, 0, 41)
    regions.register("b", memory.name, 0, 40)
    regions.unregister("a")
    regions.register("c", memory.name, 0, 1)
    assert "at most 2 regions" in refusal(regions.register, "d", memory.name, 0, 1)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [0, 1, 4095, 4096, 5000])
def test_a_view_is_of_the_clients_own_bytes_and_cannot_be_written(regions, memory, begin) -> None:
    regions.register("r", memory.name, begin, 2000)
    view = regions.view(Place("r", 10, 100), "input 'x'")
    assert bytes(view) == CONTENT[begin + 10 : begin + 110]
    memory.buf[begin + 10] = 255
    assert view[0] == 255
    assert view.readonly
    array = np.frombuffer(view, np.uint8)
    assert not array.flags.writeable
    assert not array.flags.owndata
    assert bytes(regions.view(Place("r", 2000, 0), "input 'x'")) == b""


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 2001), (1, 2000), (2001, 0), (2000, 1), (LARGEST, 1), (LARGEST, LARGEST), (8, LARGEST)],
)
def test_a_place_lies_within_its_region(regions, memory, offset: int, size: int) -> None:
    regions.register("r", memory.name, 0, 2000)
    for use in (regions.view, regions.writer):
        told = refusal(use, Place("r", offset, size), "input 'x'")
        assert told.startswith("input 'x': ")
        assert "which has 2000 bytes" in told


def test_a_region_that_nobody_registered(regions) -> None:
    for use in (regions.view, regions.writer):
        told = refusal(use, Place("r" * 1000, 0, 8), "input 'x'")
        assert told.startswith("input 'x': no shared memory region 'rrr")


# -- writing -------------------------------------------------------------------------------------


def test_an_output_is_written_to_its_place_and_nowhere_else(regions, memory) -> None:
    regions.register("r", memory.name, 5000, 100)
    write = regions.writer(Place("r", 10, 8), "output 'y'")
    write(b"12345678")
    write(memoryview(b"abc"))
    write(b"")
    expected = CONTENT[:5010] + b"abc45678" + CONTENT[5018:]
    assert bytes(memory.buf[:SIZE]) == expected


def test_an_output_that_does_not_fit_is_not_begun(regions, memory) -> None:
    regions.register("r", memory.name, 0, 100)
    write = regions.writer(Place("r", 10, 8), "output 'y'")
    told = refusal(write, b"123456789")
    assert told == ("output 'y' takes 9 bytes, but its place in the shared memory region 'r' has 8")
    assert bytes(memory.buf[:SIZE]) == CONTENT


# -- what clients do meanwhile -------------------------------------------------------------------


def mappings(key: str) -> int:
    return sum(key in each.path for each in psutil.Process().memory_maps(grouped=False))


@pytest.mark.skipif(sys.platform != "linux", reason="counts mappings by path")
def test_a_mapping_lives_until_the_last_array_over_it_is_gone(regions) -> None:
    with client_memory(SIZE) as memory:
        memory.buf[:SIZE] = CONTENT
        others = mappings(memory.name)
        gc.collect()  # so that nothing of the tests before goes in the midst of this one
        files = psutil.Process().num_fds()
        regions.register("r", memory.name, 0, SIZE)
        array = np.frombuffer(regions.view(Place("r", 0, SIZE), "x"), np.uint8)[1:].view()
        write = regions.writer(Place("r", 0, 1), "y")
        regions.unregister("r")
        refusal(regions.view, Place("r", 0, 1), "x")
        assert mappings(memory.name) == others + 1
        assert array.tobytes() == CONTENT[1:]
        write(b"!")
        assert memory.buf[0] == ord("!")
        del array
        gc.collect()
        assert mappings(memory.name) == others + 1
        del write
        gc.collect()
        assert mappings(memory.name) == others
        assert psutil.Process().num_fds() == files


def test_an_object_that_its_client_has_unlinked_stays_readable(regions) -> None:
    with client_memory(SIZE) as memory:
        memory.buf[:SIZE] = CONTENT
        regions.register("r", memory.name, 0, SIZE)
    assert bytes(regions.view(Place("r", 0, SIZE), "x")) == CONTENT


def test_the_server_neither_unlinks_nor_resizes(regions, memory) -> None:
    regions.register("r", memory.name, 0, SIZE)
    regions.writer(Place("r", 0, 4), "y")(b"abcd")
    regions.unregister(None)
    gc.collect()
    again = SharedMemory(memory.name)
    assert again.size == SIZE
    assert bytes(again.buf[:4]) == b"abcd"
    again.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an object is sized only once")
def test_an_object_that_has_become_smaller_is_not_touched(regions, memory) -> None:
    regions.register("r", memory.name, 0, SIZE)
    write = regions.writer(Place("r", 0, 8), "output 'y'")
    os.truncate(f"/dev/shm/{memory.name}", 100)
    told = "has become smaller than the region; unregister it"
    assert told in refusal(regions.view, Place("r", 0, 8), "x")
    assert told in refusal(regions.view, Place("r", 9000, 8), "x")
    assert told in refusal(regions.writer, Place("r", 0, 8), "y")
    assert told in refusal(write, b"12345678")


def test_memory_that_cannot_be_had_is_a_refusal(regions, memory, monkeypatch) -> None:
    """A full /dev/shm; the kernel then says so to madvise, where a touch would be a SIGBUS."""
    regions.register("r", memory.name, 0, SIZE)
    asked = []

    class Full:
        def size(self) -> int:
            return SIZE

        def madvise(self, *arguments: int) -> None:
            asked.append(arguments)
            raise OSError(errno.EFAULT, "Bad address")

    monkeypatch.setattr(shared_regions, "_POPULATES", True)
    monkeypatch.setattr(regions._by_name["r"], "_map", Full())
    for use in (regions.view, regions.writer):
        assert "no memory left" in refusal(use, Place("r", 5000, 100), "x")
    begin = 5000 - 5000 % os.sysconf("SC_PAGESIZE")
    assert asked == [(22, begin, 5100 - begin), (23, begin, 5100 - begin)]


def test_a_kernel_that_cannot_be_asked_is_not(regions, memory, monkeypatch) -> None:
    regions.register("r", memory.name, 0, SIZE)

    class Old:
        def size(self) -> int:
            return SIZE

        def madvise(self, *arguments: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(shared_regions, "_POPULATES", True)
    monkeypatch.setattr(regions._by_name["r"], "_map", Old())
    assert bytes(regions.view(Place("r", 0, 8), "x")) == CONTENT[:8]
