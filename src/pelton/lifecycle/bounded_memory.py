"""Where loaded versions live if memory for them is bounded: some sleep until they are asked for.

Who is in memory is for `Residency` to say. Here a version that it has to unload becomes one that
is asleep, which requests find all the same, and that is loaded again for the first of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from pelton.engine.lending import lent_as
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import LoadFailed, PeltonError, Unavailable
from pelton.lifecycle.leases import Lease, Loaded
from pelton.lifecycle.memory import Loading
from pelton.lifecycle.residency import Residency
from pelton.lifecycle.unhurried import Offload, unhurried
from pelton.lifecycle.version import Version
from pelton.runtimes.contract import Stop

logger = logging.getLogger("pelton.lifecycle")

PATIENCE_S = 10.0
"""How long a request waits for room while others run on the models that are in memory."""

COPIES_S = 10.0
"""How long a version that is to be unloaded may take to answer copies of requests, for which nobody
waits and which hold no lease."""


class BoundedMemory:
    """A `Memory` within `max_models_bytes`, and the `Lender` of the engine."""

    def __init__(
        self,
        max_bytes: int,
        models: Models,
        loading: Loading,
        offload: Offload = unhurried,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Make one in which nothing is loaded.

        Args:
            max_bytes: what the files of all loaded versions may take together.
            models: where requests find versions.
            loading: loads and closes them.
            offload: looks at files off the event loop.
            patience_s: how long a load waits for room while requests run on other models.
        """
        self._models = models
        self._loading = loading
        self._offload = offload
        self._residency: Residency[Model] = Residency(
            max_bytes, self._load, self._unload, patience_s
        )
        self._versions: dict[str, Version] = {}
        self._keys: dict[Version, str] = {}
        self._found_as: dict[str, str] = {}  # what the engine calls a version -> its key here
        self._held: dict[Version, Lease[Model]] = {}
        self._stops: dict[str, Stop] = {}
        self._there: dict[str, Model] = {}  # loaded before there was an event loop
        self._max_bytes = self._left_bytes = max_bytes  # for those
        self._going: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(2)
        self._ending = False

    # -- what the engine asks for ----------------------------------------------------------------

    def lease_now(self, name: str) -> Lease[Model] | None:
        """Lend a version that is in memory; None if it is not."""
        key = self._found_as.get(name)
        return None if key is None else self._residency.lease_now(key)

    async def lease(self, name: str) -> Lease[Model]:
        """Lend a version, and load it before if it is asleep.

        Raises:
            Unavailable: it is gone, cannot be loaded, or there is no room for it.
        """
        key = self._found_as.get(name)
        if key is None:
            raise Unavailable(f"{name!r:.100} is not loaded any more", 1.0)
        try:
            return await self._residency.lease(key)
        except LoadFailed as error:  # nothing is wrong with the request
            logger.error("%s is not loaded again: %s", name, error.message)
            raise Unavailable(
                f"{name!r:.100} cannot be loaded again; the server's log says why"
            ) from error

    def ask_for_way(self, make_way: Callable[[], Awaitable[bool]]) -> None:
        """Have somebody asked for memory that could be done without, where there is no room.

        Args:
            make_way: gives some back, if there is any, and tells whether there was.
        """
        self._residency.make_way = make_way

    # -- what a swap does ------------------------------------------------------------------------

    async def load(self, version: Version) -> None:
        """Load a version, and hold on to it; see `Memory`."""
        key = self._know(version, await self._offload(size_bytes, version.spec.path))
        try:
            self._held[version] = await self._residency.hold(key)
        except BaseException:
            self._stops[key].ask()
            self._go(version)
            raise

    async def warm(self, version: Version) -> None:
        """Do nothing: it was warmed when it was loaded, as it is each time."""

    async def hold(self, version: Version) -> None:
        """Have a version stay in memory; see `Memory`."""
        if version not in self._held:
            lease = await self._residency.hold(self._keys[version])
            if version in self._held:  # somebody else was as quick
                lease.release()
            else:
                self._held[version] = lease

    def let_go(self, version: Version) -> None:
        """Allow that a version is unloaded while nobody asks for it; see `Memory`."""
        lease = self._held.pop(version, None)
        if lease is not None:
            lease.release()

    @contextlib.asynccontextmanager
    async def lent(self, version: Version) -> AsyncIterator[Model]:
        """Use a version; see `Memory`."""
        with await self._residency.lease(self._keys[version]) as model:
            yield model

    def add(self, version: Version) -> None:
        """Have requests find a version by its number; see `Memory`."""
        self._models.add(self._found(version))

    def switch(self, version: Version) -> None:
        """Have requests for the model's name find this version, which is held; see `Memory`."""
        self._models.switch(self._found(version))

    def hide(self, version: Version) -> None:
        """Have no request find a version any more; see `Memory`."""
        key = self._keys.get(version)
        if key is not None and self._is_found(version, key):
            del self._found_as[lent_as(version.name, version.number)]
            self._models.forget(version.name, version.number)
        if version.model is not None:
            self._models.remove(version.model)

    async def drained(self, version: Version) -> None:
        """Wait until a hidden version has answered what it was given; see `Memory`."""
        if version.model is not None:
            await version.model.drained()

    async def close(self, version: Version) -> None:
        """Hide a version, and give its memory back; see `Memory`."""
        self.hide(version)
        self.let_go(version)
        going = self._go(version)
        if going is not None:
            await asyncio.wait({going})

    # -- the start and the end -------------------------------------------------------------------

    def take_over(self, version: Version, model: Model, active: bool) -> bool:
        """Take over a version that was loaded before the event loop runs.

        Returns:
            Whether there is room; if not, it is asleep now, and the caller closes the model.
        """
        size = size_bytes(version.spec.path)
        key = self._know(version, size)
        version.became(model)
        (self.switch if active else self.add)(version)
        if self._left_bytes < size:
            if size > self._max_bytes:
                logger.warning(
                    "model %s version %d takes %d bytes, which is more than max_models_bytes, %d; "
                    "it will not answer",
                    version.name,
                    version.number,
                    size,
                    self._max_bytes,
                )
            version.model = None
            self._models.sleep(model)
            return False
        self._left_bytes -= size
        self._there[key] = model
        return True

    async def start(self) -> None:
        """Count what was taken over; to be called on the event loop, before any request."""
        for key in list(self._there):
            with contextlib.suppress(PeltonError):
                (await self._residency.lease(key)).release()

    async def end(self) -> None:
        """Unload everything, at once."""
        self._ending = True
        await self._residency.close()

    # -- what `Residency` has done ----------------------------------------------------------------

    async def _load(self, key: str) -> Loaded[Model]:
        version = self._versions[key]
        model = self._there.pop(key, None)
        if model is None:
            stop = self._stops[key] = Stop()
            model = await self._loading.load(version.spec, stop)
            try:
                await self._loading.warm(model)
            except BaseException:
                await self._loading.close(model)
                raise
            version.became(model)
            if self._is_found(version, key):
                self._models.add(model)
        return Loaded(model)

    async def _unload(self, key: str, model: Model) -> None:
        version = self._versions[key]
        if self._is_found(version, key):
            self._models.sleep(model)
        version.model = None
        if not self._ending:
            await _drained(model)
        await self._loading.close(model)

    # -- small things ----------------------------------------------------------------------------

    def _know(self, version: Version, size: int) -> str:
        key = lent_as(version.name, version.number)
        if key in self._versions:  # it is loaded once more, and takes its place later
            key = f"{key} ({next(self._numbers)})"
        self._versions[key], self._keys[version] = version, key
        self._stops[key] = Stop()
        self._residency.add(key, size, version.spec.pinned)
        return key

    def _found(self, version: Version) -> Model:
        if version.model is None:
            raise Unavailable(f"version {version.number} of {version.name!r:.80} is not loaded")
        self._found_as[lent_as(version.name, version.number)] = self._keys[version]
        return version.model

    def _is_found(self, version: Version, key: str) -> bool:
        return self._found_as.get(lent_as(version.name, version.number)) == key

    def _go(self, version: Version) -> asyncio.Task[None] | None:
        """Have a version unloaded as soon as nobody uses it."""
        key = self._keys.pop(version, None)
        if key is None:
            return None
        task = asyncio.get_running_loop().create_task(self._gone(key))
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return task

    async def _gone(self, key: str) -> None:
        with contextlib.suppress(PeltonError):  # everything is being closed
            await self._residency.remove(key)
        del self._versions[key], self._stops[key]


async def _drained(model: Model) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(COPIES_S):
            await model.drained()


def size_bytes(path: Path) -> int:
    """Return the size of a model's file, or of all files in its folder.

    Files that cannot be looked at are not counted.
    """
    if not path.is_dir():
        with contextlib.suppress(OSError):
            return path.stat().st_size
        return 0
    return sum(size_bytes(one) for one in path.iterdir() if not one.is_symlink())
