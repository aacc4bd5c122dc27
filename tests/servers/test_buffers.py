"""A block of the pool belongs to one body until nothing that views it is left."""

from __future__ import annotations

import gc
import itertools
import pickle
import random

import numpy as np
import pytest

from pelton.servers.buffers import ALIGNMENT, SMALLEST_BLOCK, BufferPool

KIB, MIB = 1024, 1024 * 1024


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
