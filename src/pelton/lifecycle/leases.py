"""Models that may be loaded, and the leases that keep them so; see `residency`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """What a loader gives.

    Attributes:
        model: the model, ready to run.
        bytes: memory that it was measured to take; None where that cannot be told.
    """

    model: M
    bytes: int | None = None


@dataclass(slots=True, eq=False)
class Entry(Generic[M]):
    """One model that may be loaded.

    Attributes:
        bytes: its size as far as it is known.
        pinned: whether it is to stay loaded.
        model: the model while it is loaded.
        reserved: whether room is kept for it, while it is being loaded.
        leases: requests that run on it, or wait for it.
        holds: how many of these are for longer than a request.
        last_used: number of the lease that was last taken.
        leaving: set when requests may use it again; None while they may.
        waiting: requests that wait for that.
        unloading: what unloads it, while that is under way.
        removed: whether nobody may use it any more.
        idle: set when there may be no lease any more, for whoever waits for that.
    """

    name: str
    bytes: int
    pinned: bool
    model: M | None = None
    reserved: bool = False
    leases: int = 0
    holds: int = 0
    last_used: int = 0
    leaving: asyncio.Event | None = field(default=None, repr=False)
    waiting: int = 0
    unloading: asyncio.Task[None] | None = None
    removed: bool = False
    idle: asyncio.Event | None = field(default=None, repr=False)


class Lease(Generic[M]):
    """Keeps a model loaded until it is released; a context manager.

    Attributes:
        model: the model.
        holds: whether it lasts longer than a request.
    """

    __slots__ = ("_entry", "holds", "model")

    def __init__(self, entry: Entry[M], model: M) -> None:
        self.model = model
        self.holds = False
        self._entry: Entry[M] | None = entry

    def release(self) -> None:
        """Give it back; once is enough, and more does no harm."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.holds -= self.holds
            release(entry)

    def __enter__(self) -> M:
        return self.model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def changes(entry: Entry[M]) -> bool:
    """Tell whether a model is busy for longer than a request takes."""
    return bool(entry.holds or entry.reserved or entry.unloading or entry.removed)


def takes_memory(entry: Entry[M]) -> bool:
    """Tell whether a model counts into the budget."""
    return entry.model is not None or entry.reserved


async def at_the_door(entry: Entry[M]) -> None:
    """Wait until requests may use a model again; whoever waits is let in before it is removed."""
    entry.waiting += 1
    try:
        while entry.leaving is not None:
            await entry.leaving.wait()
    finally:
        entry.waiting -= 1
        if entry.idle is not None:
            entry.idle.set()


def release(entry: Entry[M]) -> None:
    """Give back one lease."""
    entry.leases -= 1
    if not entry.leases and entry.idle is not None:
        entry.idle.set()
