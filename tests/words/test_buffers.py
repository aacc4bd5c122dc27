"""A block of the pool belongs to one body until nothing that views it is left."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import random
import threading

import numpy as np
import pytest

from pelton.arena import Arena
from pelton.buffers import ALIGNMENT, SMALLEST_BLOCK, BufferPool

MIB = 1024 * 1024


@pytest.fixture
def arena():
    arena = Arena.create(4 * MIB)
    yield arena
    arena.close()


def start_of(arena: Arena, view: memoryview) -> int | None:
    return arena.offset_of(np.frombuffer(view, np.uint8))


def memory_of(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


def address(view: memoryview) -> int:
    return np.frombuffer(view, np.uint8).ctypes.data


def same_block(one: memoryview | int, other: memoryview | int) -> bool:
    """Tell whether two views of the same size and lead begin at the same byte."""
    first = one if isinstance(one, int) else address(one)
    second = other if isinstance(other, int) else address(other)
    return first == second


# -- what is handed out --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4000, SMALLEST_BLOCK - 64, SMALLEST_BLOCK, MIB + 1])
@pytest.mark.parametrize("lead", [0, 1, 63, 64, 65, 200, 10**9])
def test_the_byte_after_the_lead_is_aligned(size: int, lead: int) -> None:
    view = BufferPool(MIB).take(size, lead)
    assert len(view) == size
    assert not view.readonly
    if size:
        assert (address(view) + lead) % ALIGNMENT == 0


def test_the_memory_is_writable_to_its_last_byte() -> None:
    pool = BufferPool(MIB)
    views = [pool.take(size, lead) for size in (100, SMALLEST_BLOCK - 64) for lead in range(65)]
    for index, view in enumerate(views):
        view[:] = bytes([index % 256]) * len(view)
    for index, view in enumerate(views):
        assert bytes(view) == bytes([index % 256]) * len(view)


# -- when a block is used again ------------------------------------------------------------------


def test_a_block_that_nobody_holds_is_used_again() -> None:
    pool = BufferPool(MIB)
    view = pool.take(5000)
    first = address(view)
    del view
    assert all(same_block(first, pool.take(5000)) for _ in range(100))
    assert pool.held_bytes == SMALLEST_BLOCK


def test_sizes_that_share_a_class_share_a_block() -> None:
    pool = BufferPool(MIB)
    first = address(pool.take(10))
    assert same_block(first, pool.take(SMALLEST_BLOCK - 64))
    assert not same_block(first, pool.take(SMALLEST_BLOCK))


HOLDERS = {
    "view": lambda view: view,
    "slice": lambda view: view[8:16],
    "empty slice": lambda view: view[:0],
    "second view": memoryview,
    "cast view": lambda view: view[:8].cast("d"),
    "read-only view": lambda view: view.toreadonly(),
    "array": lambda view: np.frombuffer(view, np.uint8),
    "array of a slice": lambda view: np.frombuffer(view[16:32], "<f4"),
    "asarray": np.asarray,
    "array with an offset": lambda view: np.frombuffer(view, "<f4", 4, 16),
    "array made over it": lambda view: np.ndarray((8,), "<f4", view, 16),
    "array made over a slice": lambda view: np.ndarray((2, 4), "<f4", view[64:]),
    "reshaped": lambda view: np.frombuffer(view[:64], "<f4").reshape(4, 4),
    "sliced, turned": lambda view: np.frombuffer(view[:64], "<f4").reshape(4, 4)[::-1, 1:].T,
    "one element": lambda view: np.frombuffer(view, "<f4")[3:4],
    "viewed as another dtype": lambda view: np.frombuffer(view[:64], "<f4").view(np.int8),
    "broadcast": lambda view: np.broadcast_to(np.frombuffer(view[:4], "<f4"), (10,)),
    "in a dict in a list": lambda view: [{"x": np.frombuffer(view, np.uint8)}],
    "view of an array": lambda view: np.frombuffer(view, np.uint8).data[4:8],
    "out-of-band buffer": lambda view: pickle.PickleBuffer(np.frombuffer(view, np.uint8)),
    "closure": lambda view: lambda: view,
    "iterator": iter,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_a_block_stays_taken_as_long_as_anything_views_it(hold) -> None:
    pool = BufferPool(MIB)
    view = pool.take(5000)
    first = address(view)
    holder = hold(view)
    del view
    gc.collect()
    assert not any(same_block(first, pool.take(5000)) for _ in range(3))
    del holder
    assert any(same_block(first, view) for view in [pool.take(5000), pool.take(5000)])


@pytest.mark.parametrize(
    "copied",
    [bytes, lambda view: np.frombuffer(view, "<f4").astype("<f8"), lambda view: view[0], len],
    ids=["bytes", "astype", "element", "len"],
)
def test_a_copy_does_not_keep_the_block(copied) -> None:
    pool = BufferPool(MIB)
    view = pool.take(5000)
    view[:] = bytes(5000)
    first, copy = address(view), copied(view)
    del view
    assert same_block(first, pool.take(5000))
    assert copy is not None


def test_a_released_view_gives_the_block_back() -> None:
    pool = BufferPool(MIB)
    view = pool.take(5000)
    first = address(view)
    view.release()
    assert same_block(first, pool.take(5000))


def test_a_block_in_a_reference_cycle_is_free_after_garbage_collection() -> None:
    pool = BufferPool(MIB)
    view = pool.take(5000)
    first = address(view)
    cycle: list[object] = [np.frombuffer(view, np.uint8)]
    cycle.append(cycle)
    del view, cycle
    gc.disable()
    try:
        assert not same_block(first, pool.take(5000))
    finally:
        gc.enable()
    gc.collect()
    assert any(same_block(first, view) for view in [pool.take(5000), pool.take(5000)])


def test_a_block_is_never_handed_out_twice_at_a_time() -> None:
    """Takes and drops at random; each holder's pattern must stay as it was written."""
    rng = random.Random(7)
    pool = BufferPool(MIB)
    held: list[tuple[np.ndarray, int]] = []
    for step in range(3000):
        if held and rng.random() < 0.5:
            array, pattern = held.pop(rng.randrange(len(held)))
            assert (array == pattern).all()
            continue
        size = rng.choice([10, 1000, 60_000, 70_000, 200_000])
        array = np.frombuffer(pool.take(size, rng.randrange(100)), np.uint8)
        array[:] = step % 256
        held.append((array[:: rng.choice([1, 2, -1])], step % 256))
        if len(held) > 12:
            held.pop(0)
        assert pool.held_bytes <= MIB
    spans = sorted((np.lib.array_utils.byte_bounds(array)) for array, _ in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


# -- how much is kept ----------------------------------------------------------------------------


def test_no_more_is_kept_than_allowed_and_more_is_served_all_the_same() -> None:
    pool = BufferPool(4 * SMALLEST_BLOCK)
    views = [pool.take(1000) for _ in range(20)]
    assert pool.held_bytes == 4 * SMALLEST_BLOCK
    assert len({address(view) for view in views}) == 20
    kept = {address(view) for view in views[:4]}
    del views
    again = [pool.take(1000) for _ in range(4)]
    assert {address(view) for view in again} == kept
    assert pool.held_bytes == 4 * SMALLEST_BLOCK


def test_a_pool_that_may_keep_nothing_still_gives_memory() -> None:
    pool = BufferPool(0)
    view = pool.take(1000)
    view[:] = b"x" * 1000
    assert pool.held_bytes == 0


def test_a_body_larger_than_the_pool_is_served_and_not_kept() -> None:
    pool = BufferPool(MIB)
    assert len(pool.take(3 * MIB)) == 3 * MIB
    assert pool.held_bytes == 0


def test_idle_blocks_of_other_sizes_make_room() -> None:
    pool = BufferPool(4 * SMALLEST_BLOCK)
    small = [pool.take(1000) for _ in range(4)]
    del small
    big = pool.take(3 * SMALLEST_BLOCK)
    assert pool.held_bytes == 4 * SMALLEST_BLOCK  # the big one's block, and no small one
    first = address(big)
    del big
    assert same_block(first, pool.take(3 * SMALLEST_BLOCK))


def test_blocks_in_use_are_not_dropped_to_make_room() -> None:
    pool = BufferPool(4 * SMALLEST_BLOCK)
    used = [np.frombuffer(pool.take(1000), np.uint8) for _ in range(3)]
    for array in used:
        array[:] = 7
    big = pool.take(3 * SMALLEST_BLOCK)
    big[:] = b"\x09" * len(big)
    assert pool.held_bytes == 3 * SMALLEST_BLOCK  # there is no room to keep the big one's block
    assert all((array == 7).all() for array in used)


# -- how much is in use --------------------------------------------------------------------------


@pytest.mark.parametrize("keep_bytes", [0, MIB])
def test_what_is_in_use_is_counted_whether_it_is_kept_or_not(keep_bytes: int, arena) -> None:
    for pool in (BufferPool(keep_bytes), BufferPool(keep_bytes, arena)):
        one, two = pool.take(10), pool.take(100_000)
        array = np.frombuffer(two, np.uint8)
        assert pool.in_use_bytes == 3 * SMALLEST_BLOCK
        del two
        assert pool.in_use_bytes == 3 * SMALLEST_BLOCK
        del array
        assert pool.in_use_bytes == SMALLEST_BLOCK
        del one
        assert pool.in_use_bytes == 0


def test_another_thread_may_let_go(arena) -> None:
    pool = BufferPool(MIB, arena)
    held = [pool.take(10) for _ in range(8)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert pool.in_use_bytes == 0
    assert pool.held_bytes == 8 * SMALLEST_BLOCK


# -- blocks in an arena --------------------------------------------------------------------------


def test_blocks_lie_in_the_arena_and_apart(arena) -> None:
    pool = BufferPool(4 * MIB, arena)
    views = [pool.take(size, 100) for size in (10, 100_000, SMALLEST_BLOCK, MIB, 10)]
    starts = [start_of(arena, view) for view in views]
    assert None not in starts
    assert all((address(view) + 100) % ALIGNMENT == 0 for view in views)
    for index, view in enumerate(views):
        view[:] = bytes([index + 1]) * len(view)
    assert all(bytes(view) == bytes([i + 1]) * len(view) for i, view in enumerate(views))


def test_memory_is_private_once_the_arena_is_full(arena) -> None:
    pool = BufferPool(64 * MIB, arena)
    views = [pool.take(MIB - 64) for _ in range(5)]
    assert [start_of(arena, view) is None for view in views] == [False] * 4 + [True]
    assert start_of(arena, BufferPool(64 * MIB, arena).take(5 * MIB)) is None
    assert pool.in_use_bytes == 5 * MIB


def test_small_blocks_grow_together_to_a_large_one(arena) -> None:
    pool = BufferPool(4 * MIB, arena)
    small = [pool.take(1000) for _ in range(4 * MIB // SMALLEST_BLOCK)]
    assert {start_of(arena, view) for view in small} == {
        index * SMALLEST_BLOCK for index in range(len(small))
    }
    del small
    assert start_of(arena, pool.take(4 * MIB - 64)) == 0
    assert pool.held_bytes == 4 * MIB


def test_an_arena_of_any_size_is_used_to_its_last_whole_block() -> None:
    arena = Arena.create(7 * SMALLEST_BLOCK + 5000)
    pool = BufferPool(MIB, arena)
    views = [pool.take(1000) for _ in range(8)]
    assert sum(start_of(arena, view) is not None for view in views) == 7
    arena.close()


def test_idle_memory_beyond_what_is_kept_goes_back_to_the_system(arena) -> None:
    pool = BufferPool(MIB, arena)
    views = [pool.take(MIB - 64) for _ in range(3)]
    for view in views:
        view[:] = b"x" * len(view)
    assert memory_of(arena) >= 3 * (MIB - 4096)
    del view, views
    assert memory_of(arena) <= MIB  # at once, before anybody takes again
    assert pool.held_bytes == MIB
    assert start_of(arena, pool.take(2 * MIB - 64)) is not None


def test_idle_blocks_that_make_room_go_back_to_the_system(arena) -> None:
    pool = BufferPool(MIB, arena)
    small = [pool.take(SMALLEST_BLOCK - 64) for _ in range(16)]
    for view in small:
        view[:] = b"x" * len(view)
    del view, small
    assert memory_of(arena) >= MIB - 16 * 4096
    big = pool.take(MIB - 64)
    assert memory_of(arena) == 0
    assert start_of(arena, big) is not None
    assert pool.held_bytes == MIB


def test_a_block_of_an_arena_is_used_again_with_its_memory(arena) -> None:
    pool = BufferPool(MIB, arena)
    view = pool.take(5000)
    view[:4] = b"warm"
    first = address(view)
    del view
    again = pool.take(5000)
    assert same_block(first, again)
    assert bytes(again[:4]) == b"warm"


def test_blocks_of_an_arena_are_never_handed_out_twice_at_a_time(arena) -> None:
    rng = random.Random(11)
    pool = BufferPool(MIB, arena)
    held: list[tuple[np.ndarray, int]] = []
    for step in range(2000):
        if held and rng.random() < 0.5:
            array, pattern = held.pop(rng.randrange(len(held)))
            assert (array == pattern).all()
            continue
        size = rng.choice([10, 60_000, 70_000, 200_000, 600_000])
        array = np.frombuffer(pool.take(size, rng.randrange(100)), np.uint8)
        array[:] = step % 256
        held.append((array, step % 256))
        if len(held) > 10:
            held.pop(0)
        assert pool.held_bytes <= MIB
    held.clear()
    del array
    assert pool.in_use_bytes == 0
    assert memory_of(arena) <= MIB
