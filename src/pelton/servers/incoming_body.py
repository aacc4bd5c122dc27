"""A body that is received straight into one block.

Between kernel and model nothing is copied of it; only a small body that arrives with its head is
copied once, and does not come here.
"""

from __future__ import annotations

SPARE_BYTES = 1
"""Read beyond a body: a read that does not fill its buffer was the last."""

_NOTHING = memoryview(b"")


class IncomingBody:
    """The block of a body, and how much of it has come; empty until one begins."""

    __slots__ = ("_block", "_filled")

    def __init__(self) -> None:
        self._block = _NOTHING
        self._filled = 0

    def begin(self, block: memoryview, first: bytearray) -> None:
        """Begin with a body.

        Args:
            block: where it goes; longer by `SPARE_BYTES`.
            first: what has come of it already.
        """
        self._block = block
        self._filled = len(first)
        block[: self._filled] = first

    def room(self) -> memoryview:
        """Return where the next bytes go."""
        return self._block[self._filled :]

    def received(self, count: int) -> bool:
        """Count bytes that have come there, and tell whether the body is complete."""
        self._filled += count
        return self._filled >= len(self._block) - SPARE_BYTES

    def take(self) -> tuple[memoryview, memoryview]:
        """Return the body and what came beyond it, and keep neither."""
        end = len(self._block) - SPARE_BYTES
        taken = self._block[:end], self._block[end : self._filled]
        self.drop()
        return taken

    def drop(self) -> None:
        """Forget the block."""
        self._block = _NOTHING
