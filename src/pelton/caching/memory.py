"""Answers kept in memory: bounded by bytes, each for some time, the least lately used go first.

Everything happens on one event loop, so there are no locks.
"""

from __future__ import annotations

from pelton.caching.entry import Entry
from pelton.clock import Clock

LARGEST_SHARE = 8
"""An entry takes at most one part in this many of the bound, so that it cannot push all out."""


class MemoryStore:
    """Keeps entries by key.

    Attributes:
        bytes: what the entries take now, keys and the tables included.
        largest_bytes: what an entry may take.
        evicted: entries that had to make room so far.
        expired: entries whose time was over when they were asked for.
    """

    def __init__(self, max_bytes: int, clock: Clock) -> None:
        """Make a store.

        Args:
            max_bytes: what all entries may take together.
            clock: tells when an entry's time is over.
        """
        self.bytes = 0
        self.largest_bytes = max_bytes // LARGEST_SHARE
        self.evicted = 0
        self.expired = 0
        self._max_bytes = max_bytes
        self._clock = clock
        # Each with when it expires; in the order of use: the first is evicted first.
        self._places: dict[bytes, tuple[Entry, float]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> Entry | None:
        """Return what is kept under a key, or None."""
        place = self._places.pop(key, None)
        if place is None:
            return None
        entry, expires_s = place
        if expires_s <= self._clock():
            self.bytes -= entry.size_bytes
            self.expired += 1
            return None
        self._places[key] = place
        return entry

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> bool:
        """Keep an entry, in place of one of the same key.

        Args:
            key: what it will be asked for by.
            entry: what to keep.
            ttl_s: for how long.

        Returns:
            Whether it is kept; one that takes more than `largest_bytes` is not.
        """
        before = self._places.pop(key, None)
        if before is not None:
            self.bytes -= before[0].size_bytes
        if entry.size_bytes > self.largest_bytes:
            return False
        self._places[key] = entry, self._clock() + ttl_s
        self.bytes += entry.size_bytes
        while self.bytes > self._max_bytes:
            oldest = next(iter(self._places))
            self.bytes -= self._places.pop(oldest)[0].size_bytes
            self.evicted += 1
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._places.clear()
        self.bytes = 0
