"""Aligned blocks of memory that request bodies are received into, used again and again.

Fresh memory is slow: the kernel clears each page at its first touch, which for a large picture
takes longer than receiving it. A block is handed out as a memoryview; arrays are views of it.
Nobody gives a block back. It is free again when nothing refers to it any more, which CPython's
reference count tells exactly: every memoryview and array over the block holds a reference.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector register of the machines we know."""

SMALLEST_BLOCK = 64 * 1024
"""Bytes; smaller requests share the size class of this one."""

Block = npt.NDArray[np.uint8]


class BufferPool:
    """Keeps blocks for reuse, up to a number of bytes.

    Attributes:
        held_bytes: the size of all blocks that are kept, in use or not.
    """

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._blocks: dict[int, list[Block]] = {}
        self.held_bytes = 0
        probe = [np.empty(1, np.uint8)]
        self._idle_references = _references(probe, 0)

    def take(self, size: int, lead: int = 0) -> memoryview:
        """Return writable memory for `size` bytes, with byte `lead` on an aligned address.

        Args:
            size: bytes wanted.
            lead: bytes before the part that has to be aligned, such as a JSON header before
                the first tensor.
        """
        wanted = 1 << (max(size + ALIGNMENT, SMALLEST_BLOCK) - 1).bit_length()
        blocks = self._blocks.setdefault(wanted, [])
        for index in range(len(blocks)):
            if _references(blocks, index) == self._idle_references:
                return _part(blocks[index], size, lead)
        block = _aligned(wanted)
        if self._make_room(wanted):
            blocks.append(block)
            self.held_bytes += wanted
        return _part(block, size, lead)

    def _make_room(self, wanted: int) -> bool:
        """Drop idle blocks of other sizes until one more of this size may be kept."""
        for size, blocks in self._blocks.items():
            for index in reversed(range(len(blocks))):
                if self.held_bytes + wanted <= self._keep_bytes:
                    return True
                if size != wanted and _references(blocks, index) == self._idle_references:
                    del blocks[index]
                    self.held_bytes -= size
        return self.held_bytes + wanted <= self._keep_bytes


def _references(blocks: list[Block], index: int) -> int:
    return sys.getrefcount(blocks[index])


def _aligned(size: int) -> Block:
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def _part(block: Block, size: int, lead: int) -> memoryview:
    start = -lead % ALIGNMENT
    return block.data[start : start + size]
