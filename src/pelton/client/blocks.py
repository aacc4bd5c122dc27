"""Blocks of shared memory that the server knows, used again and again.

Each block is a region of its own, registered under its object's name. Nobody gives a block back:
it is free again when nothing refers to it any more, which CPython's reference count tells
exactly, since every memoryview and array over the block holds a reference.
"""

from __future__ import annotations

import os
import sys
import threading
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pelton.client.named_memory import NamedMemory
from pelton.tensors import Array
from pelton.wire.oip_regions import Place

SHARED_FROM_BYTES = 64 * 1024
"""Smaller tensors travel in the message: that costs less than looking after a block."""

MAX_BLOCKS = 64
"""Of one client: a server has room for a few hundred regions of all its clients together."""


class Block:
    """One region.

    Attributes:
        name: of the region, and of the object that it is.
        bytes: the whole of it, uint8 [size].
        start: its first address.
    """

    def __init__(self, memory: NamedMemory) -> None:
        self.name = memory.name
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(memory.map, np.uint8)
        self.start = address_of(self.bytes)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.bytes)

    def place(self, offset: int, size: int) -> Place:
        """Return how a request names a part of it."""
        return Place(self.name, offset, size)


class Taken(NamedTuple):
    """A block in use: it is, for as long as anything refers to `memory`.

    Attributes:
        block: the block.
        memory: the whole of it, writable.
    """

    block: Block
    memory: memoryview

    def whole(self) -> Place:
        """Return how a request names all of it."""
        return self.block.place(0, self.block.size)


class BlockPool:
    """The blocks of one client; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._blocks: list[Block] = []
        self._starts: list[int] = []
        self._left: list[str] = []
        probe = Block.__new__(Block)
        probe.bytes = np.empty(1, np.uint8)
        self._idle_references = _references(probe)

    def take(self, size: int) -> Taken | None:
        """Take a free block of the size class of `size` bytes; None where there is none."""
        wanted = block_bytes(size)
        with self._guarded():
            for block in self._blocks:
                if block.size == wanted and _references(block) == self._idle_references:
                    return Taken(block, block.bytes.data)
        return None

    def may_grow(self) -> bool:
        """Say whether one more block may be made; one that lies idle is dropped for it."""
        with self._guarded():
            if len(self._blocks) < MAX_BLOCKS:
                return True
            for block in self._blocks:
                if _references(block) == self._idle_references:
                    self._remove(block)
                    return True
        return False

    def add(self, block: Block) -> Taken:
        """Keep a new block, and take it."""
        with self._guarded():
            index = bisect_right(self._starts, block.start)
            self._starts.insert(index, block.start)
            self._blocks.insert(index, block)
            return Taken(block, block.bytes.data)

    def drop(self, block: Block) -> None:
        """Never hand out a block again; arrays over it stay as they are."""
        with self._guarded():
            if block in self._blocks:
                self._remove(block)

    def find(self, array: Array) -> Place | None:
        """Return where an array lies, if that is in a block, and as the wire has it."""
        if not array.flags.c_contiguous or array.dtype.str[0] == ">":
            return None
        start = address_of(array)
        with self._guarded():
            index = bisect_right(self._starts, start) - 1
            if index < 0:
                return None
            block = self._blocks[index]
        offset = start - block.start
        fits = offset + array.nbytes <= block.size
        return block.place(offset, array.nbytes) if fits else None

    def forget_all_but(self, known: set[str]) -> None:
        """Drop the blocks that the server does not know any more."""
        with self._guarded():
            for block in [block for block in self._blocks if block.name not in known]:
                self._remove(block)

    def left(self) -> list[str]:
        """Return, once, the names of the regions of dropped blocks."""
        with self._guarded():
            left, self._left = self._left, []
        return left

    def _remove(self, block: Block) -> None:
        index = self._blocks.index(block)
        del self._blocks[index], self._starts[index]
        self._left.append(block.name)

    def _guarded(self) -> threading.Lock:
        if self._pid != os.getpid():
            # After a fork the memory is still shared, but only the parent may go on using it.
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._blocks, self._starts, self._left = [], [], []
        return self._lock


def block_bytes(size: int) -> int:
    """Return the size of the block for so many bytes: an eighth more at the most, for reuse."""
    size = max(size, SHARED_FROM_BYTES)
    step: int = 1 << ((size - 1).bit_length() - 4)
    return -(-size // step) * step


def address_of(array: Array) -> int:
    """Return the address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def _references(block: Block) -> int:
    return sys.getrefcount(block.bytes)
