"""Answers kept in memory: bounded by bytes, each for some time, the least lately used go first.

Everything happens on one event loop, so there are no locks.
"""

from __future__ import annotations

from collections import OrderedDict

from pelton.caching.entry import Entry
from pelton.caching.packed import Packed
from pelton.clock import Clock

Kept = Entry | Packed
"""An answer in either form in which nobody can change it any more."""

LARGEST_SHARE = 8
"""An answer takes at most one part in this many of the bound, so that it cannot push all out."""


class MemoryStore:
    """Keeps answers by key.

    Attributes:
        bytes: what the answers take now, keys and the tables included.
        largest_bytes: what an answer may take.
        places: what is kept, by key, also where its time is over; to be read only.
        evicted: answers that had to make room so far.
        expired: answers whose time was over when they were asked for.
    """

    def __init__(self, max_bytes: int, clock: Clock) -> None:
        """Make a store.

        Args:
            max_bytes: what all answers may take together.
            clock: tells when an answer's time is over.
        """
        self.bytes = 0
        self.largest_bytes = max_bytes // LARGEST_SHARE
        self.evicted = 0
        self.expired = 0
        self._max_bytes = max_bytes
        self._clock = clock
        # Each with its size and when it expires; in the order of use: the first goes first. To
        # find the first, a plain dict would look through all places that were left before it.
        self.places: OrderedDict[bytes, tuple[Kept, int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.places)

    def get(self, key: bytes) -> Kept | None:
        """Return what is kept under a key, or None."""
        place = self.places.get(key)
        if place is None:
            return None
        kept, size_bytes, expires_s = place
        if expires_s <= self._clock():
            del self.places[key]
            self.bytes -= size_bytes
            self.expired += 1
            return None
        self.places.move_to_end(key)
        return kept

    def put(self, key: bytes, kept: Kept, size_bytes: int, ttl_s: float) -> bool:
        """Keep an answer, in place of one of the same key.

        Args:
            key: what it will be asked for by.
            kept: what to keep.
            size_bytes: the memory that it takes besides its key.
            ttl_s: for how long.

        Returns:
            Whether it is kept; one that takes more than `largest_bytes` is not.
        """
        places = self.places
        before = places.pop(key, None)
        if before is not None:
            self.bytes -= before[1]
        size_bytes += len(key)
        if size_bytes > self.largest_bytes:
            return False
        places[key] = kept, size_bytes, self._clock() + ttl_s
        taken_bytes = self.bytes + size_bytes
        while taken_bytes > self._max_bytes:
            taken_bytes -= places.popitem(last=False)[1][1]
            self.evicted += 1
        self.bytes = taken_bytes
        return True

    def clear(self) -> None:
        """Forget everything."""
        self.places.clear()
        self.bytes = 0
