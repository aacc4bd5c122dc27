"""How much memory bodies and answers may take together, and who has to wait for it.

A body is charged before the first byte of it is received, and an answer from when the kernel has
not taken all of it at once. A connection whose body does not fit is not read: what its client
sends stays in the client's own memory. It waits in line and is let in as soon as memory is free,
or is refused when its patience is over.

What is charged is given back when the memory is really free. A body that was received into a
block of the pool is charged until the last view of the block is gone, wherever it is: a request
whose client hung up stays charged while a run still reads its arrays.

Not in the bound are the answers that models are computing, what decoding makes of a body that is
compressed or packed, the second copy of a chunked body while its pieces are joined, and up to
`SMALL_BYTES` of each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Protocol

SMALL_BYTES = 64 * 1024
"""Bodies up to this size do not wait behind larger ones, only for memory that is used up."""

PATIENCE_S = 10.0
"""How long a connection waits for memory before it is refused."""

_START_ANYWAY = 8
"""A body starts, although it does not fit, where less than this part of the bound is used; else
one as large as the bound would wait until nothing at all goes on."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How much memory what is on its way may take.

    Attributes:
        max_buffered_bytes: of bodies and of answers that their clients have not taken yet, in
            all; at least the size of one body.
    """

    max_buffered_bytes: int = 1024 * 1024 * 1024


class Waiter(Protocol):
    """Somebody who waits for memory."""

    def memory_granted(self) -> None:
        """What was asked for is charged now; called by the event loop."""


class MemoryBudget:
    """Counts what is held, and lets in who waits.

    All of it is used on the event loop; only memory itself may become free in any thread.

    Attributes:
        limit_bytes: how much may be held.
        patience_s: how long anybody waits.
    """

    def __init__(self, limit_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self.limit_bytes = limit_bytes
        self.patience_s = patience_s
        self._held_bytes = 0
        self._answer_bytes = 0
        # Who holds a block's last view may be any thread; appending to a deque is atomic.
        self._freed: deque[int] = deque()
        self._small: dict[Waiter, int] = {}
        self._large: dict[Waiter, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False

    @property
    def buffered_bytes(self) -> int:
        """What is held now."""
        if self._freed:
            self._settle()
        return self._held_bytes

    @property
    def waiting_for_memory(self) -> int:
        """How many connections wait."""
        return len(self._small) + len(self._large)

    # -- bodies ----------------------------------------------------------------------------------

    def take(self, size: int) -> bool:
        """Charge a body if it fits now, and no other has to be let in before.

        Args:
            size: its bytes.
        """
        if self._freed:
            self._settle()
        held = self._held_bytes
        if size <= SMALL_BYTES:
            fits = held < self.limit_bytes
        else:
            fits = not self._large and self._fits(size)
        if fits:
            self._held_bytes = held + size
        return fits

    def wait(self, waiter: Waiter, size: int) -> None:
        """Stand in line; `memory_granted` is called once the body is charged."""
        line = self._small if size <= SMALL_BYTES else self._large
        line[waiter] = size
        # Always, for a block that became free before the line was seen to be there.
        self._wake()

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, if there."""
        if self._small.pop(waiter, None) is not None or self._large.pop(waiter, None) is not None:
            self._wake()  # whoever stood behind may fit

    def give_back(self, size: int) -> None:
        """Take back what `take` or the line charged."""
        self._held_bytes -= size
        if self._small or self._large:
            self._wake()

    def freed(self, size: int) -> None:
        """Give back what `take` or the line charged for memory that nothing refers to any more.

        Called in whichever thread let go of it.
        """
        self._freed.append(size)
        if (self._small or self._large) and self._loop is not None:
            # A loop that has ended has nobody in its lines who could be let in.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._let_in)

    # -- answers ---------------------------------------------------------------------------------

    def answer_fits(self, size: int) -> bool:
        """Tell whether an answer may be given to a client that may not take it at once."""
        return self._answer_bytes == 0 or self._answer_bytes + size <= self.limit_bytes

    def answer_waits(self, size: int) -> None:
        """Charge an answer that its client has not taken yet; it is there, so it always fits."""
        self._answer_bytes += size
        self._held_bytes += size

    def answer_gone(self, size: int) -> None:
        """Take it back: it is taken, or its connection is closed."""
        self._answer_bytes -= size
        self.give_back(size)

    # -- who is let in ---------------------------------------------------------------------------

    def _fits(self, size: int) -> bool:
        held = self._held_bytes
        if size <= SMALL_BYTES:
            return held < self.limit_bytes
        return held + size <= self.limit_bytes or held * _START_ANYWAY < self.limit_bytes

    def _settle(self) -> None:
        while self._freed:
            self._held_bytes -= self._freed.popleft()

    def _wake(self) -> None:
        """Look at the lines from the loop: whoever is let in may give back, and so on."""
        if not self._woken:
            self._woken = True
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        self._woken = False
        self._settle()
        for line in (self._small, self._large):
            while line:
                waiter, size = next(iter(line.items()))
                if not self._fits(size):
                    break
                del line[waiter]
                self._held_bytes += size
                waiter.memory_granted()


class Charge:
    """What one request is charged with, where its size is not known before; it ends once."""

    __slots__ = ("_budget", "_ended", "_held_bytes")

    def __init__(self, budget: MemoryBudget, taken_bytes: int) -> None:
        """Begin.

        Args:
            budget: who counts.
            taken_bytes: what is charged already.
        """
        self._budget = budget
        self._held_bytes = taken_bytes
        self._ended = False

    @property
    def held_bytes(self) -> int:
        """What is charged now."""
        return self._held_bytes

    def add(self, size: int) -> None:
        """Carry what the budget has charged besides; after the end it goes back at once."""
        self._held_bytes += size
        if self._ended:
            self.shrink(0)

    def shrink(self, size: int) -> None:
        """Give back what is beyond this size."""
        beyond = self._held_bytes - size
        if beyond > 0:
            self._held_bytes = size
            self._budget.give_back(beyond)

    def end(self) -> None:
        """Give everything back; again does nothing."""
        self._ended = True
        self.shrink(0)
