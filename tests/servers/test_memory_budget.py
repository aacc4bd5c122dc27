"""Who is let in when memory is scarce, and that every byte is given back."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from pelton.buffers import BufferPool
from pelton.servers.memory_budget import SMALL_BYTES, Charge, MemoryBudget

MIB = 1024 * 1024
LIMIT = 10 * MIB


class Line:
    """Whoever waits here writes its name down when it is let in."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.let_in: list[str] = []

    def wait(self, name: str, size: int) -> _Waiter:
        waiter = _Waiter(self.let_in, name)
        self.budget.wait(waiter, size)
        return waiter


class _Waiter:
    def __init__(self, let_in: list[str], name: str) -> None:
        self._let_in = let_in
        self._name = name

    def memory_granted(self) -> None:
        self._let_in.append(self._name)


async def rounds() -> None:
    """Let the loop run what it was asked to run, and what that asked for."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(LIMIT)


@pytest.fixture
def line(budget: MemoryBudget) -> Line:
    return Line(budget)


# -- what fits -----------------------------------------------------------------------------------


def test_bodies_fit_up_to_the_bound(budget: MemoryBudget) -> None:
    assert budget.take(6 * MIB)
    assert not budget.take(4 * MIB + 1)
    assert budget.take(4 * MIB)
    assert budget.buffered_bytes == LIMIT
    budget.give_back(4 * MIB)
    assert budget.buffered_bytes == 6 * MIB


def test_small_bodies_pass_while_anything_is_left(budget: MemoryBudget) -> None:
    assert budget.take(LIMIT - 1)
    assert budget.take(SMALL_BYTES)
    assert budget.buffered_bytes == LIMIT - 1 + SMALL_BYTES
    assert not budget.take(1)


def test_a_body_as_large_as_the_bound_starts_beside_small_ones(budget: MemoryBudget) -> None:
    assert budget.take(SMALL_BYTES)
    assert budget.take(LIMIT)
    assert not budget.take(1)


# -- the line --------------------------------------------------------------------------------------


async def test_the_line_is_served_in_order_as_far_as_memory_goes(
    budget: MemoryBudget, line: Line
) -> None:
    assert budget.take(LIMIT)
    for name in ("a", "b", "c"):
        line.wait(name, 4 * MIB)
    await rounds()
    assert line.let_in == []
    assert budget.waiting_for_memory == 3
    budget.give_back(LIMIT)
    await rounds()
    assert line.let_in == ["a", "b"]
    assert budget.buffered_bytes == 8 * MIB
    assert budget.waiting_for_memory == 1
    budget.give_back(4 * MIB)
    await rounds()
    assert line.let_in == ["a", "b", "c"]


async def test_nobody_passes_those_who_wait_but_small_ones(
    budget: MemoryBudget, line: Line
) -> None:
    assert budget.take(LIMIT - MIB)
    line.wait("large", 2 * MIB)
    assert not budget.take(SMALL_BYTES + 1)
    assert budget.take(SMALL_BYTES)


async def test_a_small_body_does_not_wait_behind_a_large_one(
    budget: MemoryBudget, line: Line
) -> None:
    assert budget.take(LIMIT)
    line.wait("large", LIMIT)
    line.wait("small", 1)
    budget.give_back(5 * MIB)
    await rounds()
    assert line.let_in == ["small"]


async def test_who_leaves_the_line_lets_the_next_in(budget: MemoryBudget, line: Line) -> None:
    assert budget.take(5 * MIB)
    first = line.wait("first", 6 * MIB)
    line.wait("second", 5 * MIB)
    await rounds()
    assert line.let_in == []
    budget.leave(first)
    budget.leave(first)
    await rounds()
    assert line.let_in == ["second"]
    assert budget.buffered_bytes == LIMIT


async def test_a_long_line_is_not_a_deep_stack(budget: MemoryBudget) -> None:
    served = 0

    class AtOnce:
        def memory_granted(self) -> None:
            nonlocal served
            served += 1
            budget.give_back(LIMIT)

    assert budget.take(LIMIT)
    for _ in range(5000):
        budget.wait(AtOnce(), LIMIT)
    budget.give_back(LIMIT)
    await rounds()
    assert served == 5000
    assert budget.buffered_bytes == 0


# -- memory that others still look at --------------------------------------------------------------


def test_a_block_is_charged_until_its_last_view_is_gone(budget: MemoryBudget) -> None:
    pool = BufferPool(LIMIT)
    assert budget.take(MIB)
    body = pool.take(MIB + 1, freed=lambda: budget.freed(MIB))
    array = np.frombuffer(body[64:128], np.float32)
    part = array[3:5]
    del body, array
    assert budget.buffered_bytes == MIB
    del part
    assert budget.buffered_bytes == 0


def test_a_block_that_is_used_again_is_charged_for_its_new_body_only(
    budget: MemoryBudget,
) -> None:
    pool = BufferPool(LIMIT)
    for _ in range(3):
        assert budget.take(MIB)
        body = pool.take(MIB, freed=lambda: budget.freed(MIB))
        assert budget.buffered_bytes == MIB
        del body
        assert budget.buffered_bytes == 0


async def test_a_thread_that_lets_go_of_a_block_lets_the_next_in(
    budget: MemoryBudget, line: Line
) -> None:
    assert budget.take(LIMIT)
    held = [BufferPool(0).take(LIMIT, freed=lambda: budget.freed(LIMIT))]
    line.wait("next", MIB)
    await rounds()
    assert line.let_in == []
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    await rounds()
    assert line.let_in == ["next"]
    assert budget.buffered_bytes == MIB


def test_a_block_may_outlive_the_loop(budget: MemoryBudget) -> None:
    held = [BufferPool(0).take(LIMIT, freed=lambda: budget.freed(LIMIT))]

    async def wait() -> None:
        assert budget.take(LIMIT)
        Line(budget).wait("never", MIB)

    asyncio.run(wait())
    held.clear()
    assert budget.buffered_bytes == 0


# -- answers ---------------------------------------------------------------------------------------


async def test_answers_that_nobody_takes_hold_requests_up(budget: MemoryBudget, line: Line) -> None:
    budget.answer_waits(LIMIT)
    assert not budget.take(1)
    line.wait("small", 1)
    await rounds()
    assert line.let_in == []
    budget.answer_gone(LIMIT)
    await rounds()
    assert line.let_in == ["small"]


def test_answers_alone_may_fill_the_bound_and_one_always_goes(budget: MemoryBudget) -> None:
    assert budget.take(LIMIT)  # bodies do not count: each makes room for its answer
    assert budget.answer_fits(2 * LIMIT)
    budget.answer_waits(LIMIT - 1)
    assert budget.answer_fits(1)
    assert not budget.answer_fits(2)


# -- charges whose size is not known before --------------------------------------------------------


def test_a_charge_grows_shrinks_and_ends_once(budget: MemoryBudget) -> None:
    assert budget.take(100)
    charge = Charge(budget, 100)
    assert budget.take(50)
    charge.add(50)
    assert charge.held_bytes == budget.buffered_bytes == 150
    charge.shrink(120)
    charge.shrink(130)
    assert charge.held_bytes == budget.buffered_bytes == 120
    charge.end()
    charge.end()
    assert charge.held_bytes == budget.buffered_bytes == 0


def test_what_is_charged_after_the_end_goes_back_at_once(budget: MemoryBudget) -> None:
    charge = Charge(budget, 0)
    charge.end()
    assert budget.take(50)
    charge.add(50)
    assert charge.held_bytes == budget.buffered_bytes == 0
