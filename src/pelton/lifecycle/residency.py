"""Which models are in memory: loaded when they are needed, unloaded when others need the room.

A request takes a lease on its model before it is run and gives it back after. A model with a lease
is never unloaded, and whoever waits for a model to be loaded counts like a lease. So nothing can
come between the end of a load and the first request.

Room is made under one lock: choose who goes, wait until they are gone, reserve. Only a
reservation makes the sum larger, so the budget holds at each moment. Whoever has to wait until
others are less busy holds nothing meanwhile, neither the lock nor room, and not for ever; those
that are to go take no new requests until then, or they might never be idle. So nothing can wait in
a circle.

A model whose size is known only once it is loaded may take more than was reserved. Then others
go, and if that does not help, the model itself does; its true size is remembered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from pelton.errors import Conflict, NotFound, Unavailable
from pelton.lifecycle.leases import (
    Entry,
    Lease,
    Loaded,
    at_the_door,
    changes,
    release,
    takes_memory,
)
from pelton.lifecycle.loading_once import LoadingOnce
from pelton.lifecycle.memory_budget import NoRoomYet, Resident, make_room

logger = logging.getLogger("pelton.lifecycle")

LOOK_AGAIN_S = 0.002
"""How often it is looked whether those who are in the way are still busy."""

M = TypeVar("M")


class Residency(Generic[M]):
    """Loads and unloads models within a budget of memory. To be used on one event loop.

    Attributes:
        make_way: asked where there is no room, to give back memory that could be done without;
            tells whether there was any.
    """

    def __init__(
        self,
        max_bytes: int | None,
        load: Callable[[str], Awaitable[Loaded[M]]],
        unload: Callable[[str, M], Awaitable[None]],
        patience_s: float = 0.0,
    ) -> None:
        """Make one in which nothing is loaded.

        Args:
            max_bytes: what all loaded models may take; None for as much as they like.
            load: loads and warms a model; if it fails or is cancelled, nothing of it is left.
            unload: closes a model on which nothing runs; called once for each that was loaded.
            patience_s: how long a load waits for room that others take who are busy.
        """
        self.make_way: Callable[[], Awaitable[bool]] = _nobody_makes_way
        self._patience_s = patience_s
        self._max_bytes = max_bytes
        self._load_model = load
        self._unload_model = unload
        self._entries: dict[str, Entry[M]] = {}
        self._loading: LoadingOnce[M] = LoadingOnce(self._load)
        self._room = asyncio.Lock()
        self._uses = 0
        self._closed = False

    # -- what there is ----------------------------------------------------------------------------

    def add(self, name: str, bytes: int, pinned: bool = False) -> None:  # noqa: A002
        """Make a model known; it is loaded when it is first needed.

        Args:
            name: its name, with the version where several of a model are to be loaded.
            bytes: size of its files.
            pinned: whether it is to stay once it is loaded.

        Raises:
            Conflict: it is known already.
        """
        if name in self._entries:
            raise Conflict(f"model {name!r:.80} is there already")
        self._entries[name] = Entry(name, bytes, pinned)

    async def remove(self, name: str) -> None:
        """Let nobody use a model any more, wait until nobody does, and unload it.

        Cancelled while it waits, it leaves the model in use.

        Raises:
            NotFound: no such model.
        """
        entry = self._known(name)
        entry.removed = True
        try:
            while entry.leases or entry.waiting:
                entry.idle = asyncio.Event()
                await entry.idle.wait()
        except asyncio.CancelledError:
            entry.removed = False
            raise
        finally:
            entry.idle = None
        await self._gone([entry])
        del self._entries[name]
        self._loading.forgive(name)

    def pin(self, name: str, pinned: bool) -> None:
        """Say whether a model is to stay once it is loaded.

        Raises:
            NotFound: no such model.
        """
        self._known(name).pinned = pinned

    def loaded(self) -> dict[str, int]:
        """Return the loaded models with the memory that each takes, in bytes."""
        return {one.name: one.bytes for one in self._entries.values() if one.model is not None}

    def is_loading(self, name: str) -> bool:
        """Tell whether a model is being loaded now."""
        return self._loading.is_loading(name)

    @property
    def used_bytes(self) -> int:
        """What counts into the budget: models that are loaded, being loaded or being unloaded."""
        return sum(one.bytes for one in self._entries.values() if takes_memory(one))

    # -- the request's way ------------------------------------------------------------------------

    def lease_now(self, name: str) -> Lease[M] | None:
        """Take a lease on a model that is loaded; None if it is not, or not known."""
        entry = self._entries.get(name)
        if entry is None or entry.model is None or entry.unloading is not None or entry.removed:
            return None
        if entry.leaving is not None:
            return None
        entry.leases += 1
        return self._leased(entry, entry.model)

    async def hold(self, name: str) -> Lease[M]:
        """Take a lease that lasts longer than a request, so that nobody waits for its end.

        Raises:
            PeltonError: as `lease`.
        """
        entry = self._known(name)
        entry.holds += 1
        try:
            lease = await self.lease(name)
        except BaseException:
            entry.holds -= 1
            raise
        lease.holds = True
        return lease

    async def lease(self, name: str) -> Lease[M]:
        """Take a lease on a model; load it before, if it is not loaded.

        Raises:
            NotFound: no such model.
            LoadFailed: it cannot be loaded.
            Unavailable: there is no room for it now, its last load failed a short time ago, or
                everything is being closed.
        """
        entry = self._known(name)
        if entry.leaving is not None:
            await at_the_door(entry)
        entry.leases += 1
        try:
            while entry.model is None or entry.unloading is not None:
                if self._closed:
                    raise _shutting_down()
                await self._loading.get(name)
        except BaseException:
            release(entry)
            raise
        return self._leased(entry, entry.model)

    async def close(self) -> None:
        """Give up what is being loaded, and unload everything; leases do not count any more."""
        self._closed = True
        entries = list(self._entries.values())
        for entry in entries:
            entry.removed = True
        await self._loading.close()
        await self._gone(entries)
        self._entries.clear()

    # -- loading and unloading --------------------------------------------------------------------

    async def _load(self, name: str) -> M:
        entry = self._entries.get(name)
        if entry is None:  # removed before the load began
            raise NotFound(f"unknown model {name!r:.80}")
        entry.leases += 1  # whoever waits may leave; a model is not removed while it is loaded
        try:
            await self._reserve(entry)
            loaded = await self._load_model(name)
            await self._settle(entry, loaded)
            entry.model = loaded.model
        finally:
            entry.reserved = False
            release(entry)
        return loaded.model

    async def _reserve(self, entry: Entry[M]) -> None:
        """Make room for a model and keep it, as soon as others who are in the way let it."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._patience_s
        leaving: list[Entry[M]] = []
        try:
            while True:
                try:
                    async with self._room:
                        await self._make_room(entry)
                        entry.reserved = True
                        return
                except Unavailable as error:
                    if await self.make_way():
                        continue
                    if not isinstance(error, NoRoomYet) or loop.time() >= until_s:
                        raise
                leaving = leaving or self._turn_away(entry)
                # Requests take no notice of who waits, for that would cost each of them.
                await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            for one in leaving:
                if one.leaving is not None:
                    one.leaving.set()
                one.leaving = None

    def _turn_away(self, entry: Entry[M]) -> list[Entry[M]]:
        """Have models that are to go for another one take no new requests; return which."""
        assert self._max_bytes is not None, "else there is room"
        others = [one for one in self._entries.values() if one is not entry and takes_memory(one)]
        residents = [
            dataclasses.replace(self._resident(one), busy=one.leaving is not None or changes(one))
            for one in others
        ]
        try:
            victims = make_room(entry.name, entry.bytes, residents, self._max_bytes)
        except Unavailable:  # enough are on their way already
            return []
        chosen = [self._entries[name] for name in victims]
        for one in chosen:
            one.leaving = asyncio.Event()
        return chosen

    async def _settle(self, entry: Entry[M], loaded: Loaded[M]) -> None:
        """Make room for what a model takes beyond what was reserved, or unload it again."""
        before, entry.bytes = entry.bytes, loaded.bytes or entry.bytes
        if entry.bytes <= before:
            return
        try:
            async with self._room:
                await self._make_room(entry)
        except BaseException:
            entry.model = loaded.model
            await self._gone([entry])
            raise

    async def _make_room(self, entry: Entry[M]) -> None:
        if self._max_bytes is None:
            return
        others = [one for one in self._entries.values() if one is not entry and takes_memory(one)]
        residents = [self._resident(one) for one in others]
        victims = make_room(entry.name, entry.bytes, residents, self._max_bytes)
        if victims:
            logger.info("unloading %s, to make room for %s", ", ".join(victims), entry.name)
            await self._gone([self._entries[name] for name in victims])

    async def _gone(self, entries: Iterable[Entry[M]]) -> None:
        """Unload models, and wait until they are; whoever is cancelled here stops only waiting."""
        leaving = []
        for entry in entries:
            if entry.model is not None and entry.unloading is None:
                entry.unloading = asyncio.get_running_loop().create_task(self._unload(entry))
            if entry.unloading is not None:
                leaving.append(entry.unloading)
        if leaving:
            await asyncio.wait(leaving)

    async def _unload(self, entry: Entry[M]) -> None:
        assert entry.model is not None, "only what is loaded is unloaded"
        try:
            await self._unload_model(entry.name, entry.model)
        except Exception:
            logger.exception("model %s could not be unloaded in order", entry.name)
        finally:
            entry.model = entry.unloading = None

    # -- small things -----------------------------------------------------------------------------

    def _known(self, name: str) -> Entry[M]:
        if self._closed:
            raise _shutting_down()
        entry = self._entries.get(name)
        if entry is None or entry.removed:
            raise NotFound(f"unknown model {name!r:.80}")
        return entry

    def _leased(self, entry: Entry[M], model: M) -> Lease[M]:
        self._uses += 1
        entry.last_used = self._uses
        return Lease(entry, model)

    def _resident(self, entry: Entry[M]) -> Resident:
        busy = bool(entry.leases) or changes(entry)
        held = entry.holds > 0
        return Resident(entry.name, entry.bytes, entry.pinned, busy, entry.last_used, held)


async def _nobody_makes_way() -> bool:
    return False


def _shutting_down() -> Unavailable:
    return Unavailable("the server is shutting down")
