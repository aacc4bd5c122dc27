"""Aligned blocks of memory that request bodies are received into, used again and again.

Fresh memory is slow: the kernel clears each page at its first touch, which for a large picture
takes longer than receiving it. A block is handed out as a memoryview; arrays are views of it.
Nobody gives a block back. It is free again when nothing refers to it any more: every memoryview
and array over the block holds a reference to one object, and CPython tells at once when the last
one goes.

Blocks may lie in an `Arena`, so that worker processes read what was received without a copy. A
block that is idle keeps its size and its memory, and is used again for the same size. When the
pool would hold more than it may, idle blocks go back to the system and their range of the arena
to the free ranges, which grow together again by the buddy system (D. E. Knuth, The Art of
Computer Programming, volume 1, 2.5).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pelton.arena import Arena

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector register of the machines we know."""

SMALLEST_BLOCK = 64 * 1024
"""Bytes; smaller requests share the size class of this one."""

Memory = npt.NDArray[np.uint8]


class _Block:
    """A part of memory whose size is a power of two.

    Attributes:
        memory: `size` bytes, the first of them aligned. No array: what is lent would be a view of
            it, and numpy has a view of a view refer to the first array alone.
        size: bytes.
        start: offset in the arena, or None where the memory is private.
    """

    __slots__ = ("memory", "size", "start")

    def __init__(self, memory: Memory, size: int, start: int | None) -> None:
        self.memory = memory.data
        self.size = size
        self.start = start


class _Loan(weakref.ref[Memory]):
    """Calls back when nothing refers to what was lent any more."""

    __slots__ = ("block", "freed", "kept")
    block: _Block
    kept: bool
    freed: Callable[[], None] | None

    def __new__(
        cls, lent: Memory, block: _Block, kept: bool, ended: Callable[[weakref.ref[Memory]], None]
    ) -> _Loan:
        loan = super().__new__(cls, lent, ended)
        loan.block = block
        loan.kept = kept
        loan.freed = None
        return loan

    def __init__(self, *args: object) -> None:
        pass


class BufferPool:
    """Lends blocks and keeps some of them for reuse, up to a number of bytes.

    One thread takes; whoever views a block may let go of it in any thread.
    """

    def __init__(self, keep_bytes: int, arena: Arena | None = None) -> None:
        """Make an empty pool.

        Args:
            keep_bytes: most bytes of blocks that are kept for reuse.
            arena: where blocks shall lie; those for which it has no room are private memory.
        """
        self._keep_bytes = keep_bytes
        self._arena = arena
        self._ranges = _Ranges(arena.size_bytes if arena else 0)
        self._idle: dict[int, list[_Block]] = {}
        self._loans: dict[int, _Loan] = {}
        # Filled by whichever thread lets go of a block; appending to a deque is atomic.
        self._ended: deque[weakref.ref[Memory]] = deque()
        self._held_bytes = 0
        self._in_use_bytes = 0

    @property
    def held_bytes(self) -> int:
        """The size of all blocks that are kept, in use or not; never more than may be kept."""
        self._settle()
        return self._held_bytes

    @property
    def in_use_bytes(self) -> int:
        """The size of all blocks that something refers to, kept or not."""
        self._settle()
        return self._in_use_bytes

    def take(self, size: int, lead: int = 0, freed: Callable[[], None] | None = None) -> memoryview:
        """Return writable memory for `size` bytes, with byte `lead` on an aligned address.

        Args:
            size: bytes wanted.
            lead: bytes before the part that has to be aligned, such as a JSON header before
                the first tensor.
            freed: called when nothing refers to the memory any more, in whichever
                thread let go of it last.
        """
        wanted = 1 << (max(size + ALIGNMENT, SMALLEST_BLOCK) - 1).bit_length()
        if self._ended:
            self._settle()
        idle = self._idle.get(wanted)
        if idle:
            block, kept = idle.pop(), True
        else:
            kept = self._make_room(wanted)
            block = self._new_block(wanted)
            self._held_bytes += wanted if kept else 0
        lent: Memory = np.frombuffer(block.memory, np.uint8)
        simply = freed is None and (kept or block.start is None)
        # A loan is found again by the identity that it has as long as it lives.
        loan = _Loan(lent, block, kept, self._ended.append if simply else self._end)
        loan.freed = freed
        self._loans[id(loan)] = loan
        self._in_use_bytes += wanted
        start = -lead % ALIGNMENT
        return lent.data[start : start + size]

    def _settle(self) -> None:
        """Take note of the blocks that have become free."""
        while self._ended:
            loan = self._ended.popleft()
            assert isinstance(loan, _Loan)
            del self._loans[id(loan)]
            block = loan.block
            self._in_use_bytes -= block.size
            if loan.kept:
                self._idle.setdefault(block.size, []).append(block)
            elif block.start is not None:
                self._ranges.give(block.start, block.size)

    def _end(self, loan: weakref.ref[Memory]) -> None:
        """Take a loan's memory back, in whichever thread; at once what is not to be kept."""
        assert isinstance(loan, _Loan)
        block = loan.block
        if not loan.kept and block.start is not None and self._arena is not None:
            self._arena.forget(block.start, block.start + block.size)
        self._ended.append(loan)
        if loan.freed is not None:
            loan.freed()

    def _make_room(self, wanted: int) -> bool:
        """Drop idle blocks of other sizes, if then one more of this size may be kept."""
        spare = self._keep_bytes - self._held_bytes
        if spare < wanted:
            idle = sum(size * len(blocks) for size, blocks in self._idle.items())
            if spare + idle < wanted:
                return False
        while self._held_bytes + wanted > self._keep_bytes:
            self._drop_idle()
        return True

    def _drop_idle(self) -> bool:
        """Drop one idle block, the largest there is; return whether there was any."""
        size = max((size for size, blocks in self._idle.items() if blocks), default=0)
        if not size:
            return False
        block = self._idle[size].pop(0)
        self._held_bytes -= size
        if block.start is not None and self._arena is not None:
            self._arena.forget(block.start, block.start + size)
            self._ranges.give(block.start, size)
        return True

    def _new_block(self, size: int) -> _Block:
        if self._arena is None:
            return _Block(_private(size), size, None)
        start = self._ranges.take(size)
        while start is None and size <= self._ranges.size and self._drop_idle():
            start = self._ranges.take(size)
        if start is None:
            return _Block(_private(size), size, None)
        return _Block(self._arena.data[start : start + size], size, start)


class _Ranges:
    """The free ranges of an arena, by the buddy system.

    A range starts at a multiple of its size, so its buddy, with which it makes one of twice the
    size, is found by flipping one bit of its start.

    Attributes:
        size: bytes that are given out in all.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size = size_bytes - size_bytes % SMALLEST_BLOCK
        self._free: dict[int, set[int]] = {}
        start = 0
        while start < self.size:
            largest = 1 << ((self.size - start).bit_length() - 1)
            self._free.setdefault(largest, set()).add(start)
            start += largest

    def take(self, size: int) -> int | None:
        """Return the start of a free range, or None if there is none of this size."""
        large = [one for one, starts in self._free.items() if one >= size and starts]
        if not large:
            return None
        found = min(large)
        start = self._free[found].pop()
        while found > size:
            found //= 2
            self._free.setdefault(found, set()).add(start + found)
        return start

    def give(self, start: int, size: int) -> None:
        """Take a range back, and put it together with its buddy as far as that is free."""
        while start ^ size in self._free.get(size, ()):
            self._free[size].remove(start ^ size)
            start &= ~size
            size *= 2
        self._free.setdefault(size, set()).add(start)


def _private(size: int) -> Memory:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]
