"""Has versions of a model in memory that are asked for by number, beside the one that answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from pelton.engine.model_states import State
from pelton.errors import LoadFailed, PeltonError
from pelton.lifecycle.gates import Gate
from pelton.lifecycle.judging import judge
from pelton.lifecycle.model_steps import ModelSteps, Tools
from pelton.lifecycle.repository_view import RepositoryView
from pelton.lifecycle.shelf import Shelf
from pelton.lifecycle.swap import passed

logger = logging.getLogger("pelton.lifecycle")


class Beside:
    """The versions of one model beside the one that answers for its name."""

    def __init__(self, shelf: Shelf, steps: ModelSteps, tools: Tools, view: RepositoryView) -> None:
        """Make it for one look at the model's folder."""
        self._shelf = shelf
        self._steps = steps
        self._tools = tools
        self._view = view

    def wanted(self) -> set[int]:
        """Return the versions there that the policy wants, or that a route or label names."""
        named = self._tools.models.table.named_versions(self._shelf.name)
        return {*self._shelf.chosen(), *(named & self._shelf.found.versions.keys())}

    async def begin(self) -> None:
        """Load those of them that have not failed yet; to be called when the server starts.

        A version that was taken back has not: who names it wants that one. They come also where
        the version that is to answer is broken, and do not stand in for it.
        """
        shelf = self._shelf
        async with shelf.changing:
            await self.bring_in(self.wanted() - (shelf.failed.keys() - shelf.withdrawn))

    async def bring_in(
        self, numbers: Iterable[int], is_new: Callable[[int], bool] = lambda _: False
    ) -> None:
        """Load versions; one that cannot be loaded is told by the index.

        Args:
            numbers: the versions, which are there.
            is_new: tells of a version that is loaded whether it is loaded again.
        """
        served = self._shelf.served
        for number in sorted(numbers):
            if served is not None and number == served.number:
                continue
            live = self._shelf.live(number)
            if live is not None and live.serving and not is_new(number):
                continue
            try:
                await self._bring_in(number)
            except PeltonError as error:
                self._shelf.failed[number] = error.message
                logger.error("model %s: %s", self._shelf.name, error.message)

    async def _bring_in(self, number: int) -> None:
        """Load a version; if it is loaded already, the new one takes its place."""
        spec = self._shelf.found.versions[number]
        if isinstance(spec, LoadFailed):
            raise spec
        memory, times = self._tools.memory, self._tools.plan.times
        before = self._shelf.live(number)
        source = await self._tools.offload(self._view.source, spec)
        version = await passed(Gate.LOAD, times.load_timeout_s, self._steps.load(source))
        try:
            await passed(Gate.WARM, times.warm_timeout_s, memory.warm(version))
            judging = judge(version, None, (), memory, self._tools.offload)
            await passed(Gate.GOLDEN, times.golden_timeout_s, judging)
        except BaseException:
            await self._steps.close(version)
            raise
        version.move(State.READY)
        if before is not None:
            memory.hide(before)
        memory.add(version)
        memory.let_go(version)
        self._shelf.failed.pop(number, None)
        if before is not None:
            await self._steps.retire(before)

    async def take_out(self) -> None:
        """Unload the versions that nobody asks for any more."""
        swap = self._shelf.swap
        needed = () if swap is None else (swap.served, swap.kept)
        for version in list(self._shelf.versions):
            if version.serving and version not in needed and not self._steps.stays(version):
                await self._steps.retire(version)
