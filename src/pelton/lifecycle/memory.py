"""Where loaded versions live: all that were loaded, each until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import Unavailable
from pelton.lifecycle.threaded_load import in_thread
from pelton.lifecycle.version import Version
from pelton.runtimes.contract import Stop
from pelton.specs import ModelSpec

logger = logging.getLogger("pelton.lifecycle")

CLOSING_S = 30.0
"""How long a version may take to give its memory back; one that hangs in a thread never does."""


class Loader(Protocol):
    """Loads one version; blocks."""

    def load_one(self, spec: ModelSpec, stop: Stop | None = None) -> Model:
        """Load a version.

        Args:
            spec: the version.
            stop: asked when nobody waits any more.

        Raises:
            LoadFailed: it cannot be loaded; nothing of it is left.
        """
        ...

    def watch(self) -> None:
        """Have the running event loop watch the worker processes that were started meanwhile."""
        ...


class Loading:
    """Loads, warms and closes models in threads that nobody has to wait for."""

    def __init__(self, loader: Loader) -> None:
        """Make one.

        Args:
            loader: loads in the thread that calls it.
        """
        self._loader = loader

    async def load(self, spec: ModelSpec, stop: Stop) -> Model:
        """Load a version.

        Args:
            spec: the version.
            stop: may be asked by anybody who wants the load to end; it is when it is cancelled.

        Raises:
            LoadFailed: it cannot be loaded.
        """
        load = functools.partial(self._loader.load_one, spec, stop)
        try:
            model = await in_thread(load, Model.close, f"loading-{spec.name}")
        except asyncio.CancelledError:
            stop.ask()
            raise
        self._loader.watch()
        return model

    async def warm(self, model: Model) -> None:
        """Run a model on made-up inputs; one that hangs is told to stop."""
        stop = Stop()
        warm = functools.partial(model.warm_up, stop)
        try:
            await in_thread(warm, _ignore, f"warming-{model.name}")
        except asyncio.CancelledError:
            stop.ask()
            raise

    async def close(self, model: Model) -> None:
        """Give a model's memory back; one that hangs is left after a while."""
        try:
            async with asyncio.timeout(CLOSING_S):
                await in_thread(model.close, _ignore, f"closing-{model.name}")
        except TimeoutError:
            logger.warning(
                "version %d of model %s still runs after %g s and is left",
                model.version,
                model.name,
                CLOSING_S,
            )


def _ignore(_: None) -> None:
    pass


class Memory(Protocol):
    """Has versions in memory, and lets go of them."""

    async def load(self, version: Version) -> None:
        """Load a version, and hold on to it; `close` has to follow.

        Raises:
            PeltonError: it cannot be loaded, or there is no room; nothing of it is left.
        """
        ...

    async def warm(self, version: Version) -> None:
        """Run a version on made-up inputs."""
        ...

    async def hold(self, version: Version) -> None:
        """Have a version stay in memory until it is let go; load it before, if it is not there.

        Raises:
            PeltonError: it cannot be loaded, or there is no room.
        """
        ...

    def let_go(self, version: Version) -> None:
        """Allow that a version is unloaded while nobody asks for it."""
        ...

    def lent(self, version: Version) -> AbstractAsyncContextManager[Model]:
        """Use a version.

        Raises:
            PeltonError: it cannot be loaded, or there is no room.
        """
        ...

    def add(self, version: Version) -> None:
        """Have requests find a version by its number."""
        ...

    def switch(self, version: Version) -> None:
        """Have requests for the model's name find this version, which is held."""
        ...

    def hide(self, version: Version) -> None:
        """Have no request find a version any more."""
        ...

    async def drained(self, version: Version) -> None:
        """Wait until a hidden version has answered what it was given."""
        ...

    async def close(self, version: Version) -> None:
        """Hide a version, and give its memory back."""
        ...


class UnboundedMemory:
    """A `Memory` in which everything stays that was loaded."""

    def __init__(self, models: Models, loading: Loading) -> None:
        """Make one.

        Args:
            models: where requests find versions.
            loading: loads and closes them.
        """
        self._models = models
        self._loading = loading

    async def load(self, version: Version) -> None:
        """Load a version; see `Memory`."""
        version.became(await self._loading.load(version.spec, Stop()))

    async def warm(self, version: Version) -> None:
        """Run a version on made-up inputs; see `Memory`."""
        await self._loading.warm(_loaded(version))

    async def hold(self, version: Version) -> None:
        """Do nothing: all of them stay."""

    def let_go(self, version: Version) -> None:
        """Do nothing: all of them stay."""

    @contextlib.asynccontextmanager
    async def lent(self, version: Version) -> AsyncIterator[Model]:
        """Use a version; see `Memory`."""
        yield _loaded(version)

    def add(self, version: Version) -> None:
        """Have requests find a version by its number; see `Memory`."""
        self._models.add(_loaded(version))

    def switch(self, version: Version) -> None:
        """Have requests for the model's name find this version; see `Memory`."""
        self._models.switch(_loaded(version))

    def hide(self, version: Version) -> None:
        """Have no request find a version any more; see `Memory`."""
        if version.model is not None:
            self._models.remove(version.model)

    async def drained(self, version: Version) -> None:
        """Wait until a hidden version has answered what it was given; see `Memory`."""
        if version.model is not None:
            await version.model.drained()

    async def close(self, version: Version) -> None:
        """Hide a version, and give its memory back; see `Memory`."""
        self.hide(version)
        model, version.model = version.model, None
        if model is not None:
            await self._loading.close(model)


def _loaded(version: Version) -> Model:
    if version.model is None:
        raise Unavailable(f"version {version.number} of model {version.name!r:.80} is not loaded")
    return version.model
