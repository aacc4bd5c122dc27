"""Looks at the folder of models now and then, and tells which of them have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from pelton.errors import PeltonError
from pelton.lifecycle.unhurried import Offload
from pelton.repository.watching import Kind, Seen, Snapshot, Watched, compare, look

logger = logging.getLogger("pelton.lifecycle")

Told = Callable[[str, frozenset[int | None]], Awaitable[None]]
"""Told of a model whose folder has changed: which of its versions are not what they were; None
stands for what lies beside the versions. New versions and those that are gone are seen anyway."""


class FolderWatch:
    """Follows a folder of models."""

    def __init__(
        self, root: Path, first: Snapshot, interval_s: float, told: Told, offload: Offload
    ) -> None:
        """Make one.

        Args:
            root: the folder.
            first: what it looked like before its models were loaded.
            interval_s: between two looks; what is copied for longer than that is seen too early.
            told: told of each model that has changed, one after the other.
            offload: looks at the folder off the event loop.
        """
        self._root = root
        self._watched = Watched.at_start(first)
        self._interval_s = interval_s
        self._told = told
        self._offload = offload

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                now = await self._offload(look, self._root)
                self._watched, changes = compare(self._watched, now)
                await self._tell(changes)
            except PeltonError as error:
                logger.warning("%s", error.message)
            # Border: whatever a look meets in folders of others, the next one may not meet again.
            except Exception:
                logger.exception("the folder of models cannot be looked at")

    async def _tell(self, changes: list[Seen]) -> None:
        for model in dict.fromkeys(one.place.model for one in changes):
            changed = frozenset(
                one.place.version
                for one in changes
                if one.place.model == model
                and (one.kind is Kind.CHANGED or one.place.version is None)
            )
            try:
                await self._told(model, changed)
            except PeltonError as error:
                logger.error("model %s, which has changed: %s", model, error.message)
            # Border: what one model's files break must not keep those after it from being seen.
            except Exception:
                logger.exception("model %s, which has changed", model)
