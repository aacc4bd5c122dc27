"""Keeps the models: decides which versions are loaded, and carries out what is asked of them.

    publish ---> Intake ---> ModelSwap.publish ---> answers      (received, checked, then as `swap`)
    load, watch -----------> ModelSwap.publish ---> answers      (as it lies in the folder)
    rollback --------------> ModelSwap.rollback, or from disk
    unload ----------------> hidden, drained, closed

All of it happens on the event loop; what blocks is called in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass

from pelton.engine.models import Models
from pelton.errors import AccessDenied, Code, Conflict, InvalidRequest, LoadFailed, NotFound
from pelton.lifecycle.beside import Beside
from pelton.lifecycle.bounded_memory import BoundedMemory
from pelton.lifecycle.gates import Gate, Refused
from pelton.lifecycle.intake import Intake
from pelton.lifecycle.keeper_index import index_rows, version_rows
from pelton.lifecycle.keeper_plan import KeeperPlan
from pelton.lifecycle.keeper_watch import FolderWatch
from pelton.lifecycle.model_steps import ModelSteps, Tools, clear_up
from pelton.lifecycle.repository_view import RepositoryView
from pelton.lifecycle.shelf import Shelf, make_way
from pelton.lifecycle.swap import ModelSwap
from pelton.lifecycle.swap_steps import Order
from pelton.lifecycle.version import Source, Version
from pelton.repository.scan import FoundModel
from pelton.repository.watching import Snapshot
from pelton.servers.model_control import IndexRow, PublishedRow, UploadRequest, VersionRow
from pelton.specs import ModelSpec

logger = logging.getLogger("pelton.lifecycle")

NO_PUBLISHING = "this server takes no new versions; start it with --allow-publish"
NO_LOADING = "this server loads and unloads nothing by request; start it with --explicit-models"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a keeper is made of.

    Attributes:
        plan: what is allowed.
        view: the folder of models.
        tools: what loads and exchanges versions.
        intake: takes uploads; None where none are taken.
        bounded: the memory, where it is bounded.
        label: given the labels of a model's versions whenever they were read.
        first_look: what the folder looked like before the models were loaded; None where it is not
            watched.
    """

    plan: KeeperPlan
    view: RepositoryView
    tools: Tools
    intake: Intake | None
    bounded: BoundedMemory | None
    label: Callable[[str, Mapping[str, int]], None]
    first_look: Snapshot | None = None


class Keeper:
    """The `ModelControl` of a server.

    Attributes:
        lender: lends models to the engine where memory for them is bounded; else None.
    """

    def __init__(self, parts: Parts) -> None:
        """Make one that knows of no model; `boot` makes those that do."""
        self.lender = parts.bounded
        self._parts = parts
        self._plan = parts.plan
        self._tools = parts.tools
        self._shelves: dict[str, Shelf] = {}
        self._steps: dict[str, ModelSteps] = {}
        self._watching: asyncio.Task[None] | None = None
        if parts.bounded is not None:
            parts.bounded.ask_for_way(lambda: make_way(self._shelves.values()))

    @property
    def models(self) -> Models:
        """Where requests find versions."""
        return self._tools.models

    # -- the start and the end -------------------------------------------------------------------

    def shelf(self, name: str) -> Shelf:
        """Return what is known of a model, were it nothing."""
        return self._shelves.setdefault(name, Shelf(name))

    def steps(self, name: str) -> ModelSteps:
        """Return the steps of a model's swap."""
        steps = self._steps.get(name)
        if steps is None:
            steps = self._steps[name] = ModelSteps(self.shelf(name), self._tools)
        return steps

    def swap(self, name: str, served: Version | None = None) -> ModelSwap[Source, Version]:
        """Return a model's swap; make it if there is none.

        Args:
            name: the model's name.
            served: what answers, for a new one.
        """
        shelf = self.shelf(name)
        if shelf.swap is None:
            times = self._plan.swap.times
            shelf.swap = ModelSwap(name, self.steps(name), times, served)
        return shelf.swap

    async def start(self) -> None:
        """Begin with what was loaded; to be called on the event loop, before any request."""
        if self._parts.bounded is not None:
            await self._parts.bounded.start()
        for shelf in list(self._shelves.values()):
            await self._beside(shelf).begin()
        if self._parts.first_look is not None:
            watch = FolderWatch(
                self._parts.view.root,
                self._parts.first_look,
                self._plan.watch_interval_s,
                self._seen,
                self._tools.offload,
            )
            self._watching = asyncio.get_running_loop().create_task(watch.run())

    async def bring_in(self, name: str, numbers: Collection[int]) -> None:
        """Load versions of a model beside what is loaded, as far as they are there.

        Args:
            name: the model's name.
            numbers: the versions.
        """
        shelf = self._shelves.get(name, Shelf(name))
        async with shelf.changing:
            if shelf.swap is not None:  # else it was unloaded, and stays so
                await self._beside(shelf).bring_in(shelf.found.versions.keys() & numbers)

    def _beside(self, shelf: Shelf) -> Beside:
        return Beside(shelf, self.steps(shelf.name), self._tools, self._parts.view)

    async def close(self) -> None:
        """Give up what is under way; the versions that answer are left to `Models`.

        A publish whose commit has begun goes through.
        """
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        swaps = [shelf.swap for shelf in self._shelves.values() if shelf.swap is not None]
        await asyncio.gather(*(swap.close() for swap in swaps))
        await asyncio.gather(*(steps.ended() for steps in self._steps.values()))
        if self._parts.bounded is not None:
            await self._parts.bounded.end()

    def finish(self) -> None:
        """Remove what is not published; to be called last, when all models are closed; blocks."""
        if self._tools.publisher is not None:
            self._tools.publisher.close()

    # -- questions -------------------------------------------------------------------------------

    def index(self, ready_only: bool) -> list[IndexRow]:
        """List all versions of all models; see `ModelControl`."""
        root, shelves = self._parts.view.root, sorted(self._shelves.items())
        rows = (row for _, shelf in shelves for row in index_rows(shelf, root))
        return [row for row in rows if row.state == "READY" or not ready_only]

    async def versions(self, name: str) -> list[VersionRow]:
        """List what is known of the versions of one model; see `ModelControl`."""
        rows = await self._tools.offload(self._tools.records.versions, name)
        shelf = self._shelves.get(name)
        if shelf is None and not rows:
            raise _unknown(name)
        labels = self._tools.models.table.labels.get(name, {})
        return version_rows(shelf or Shelf(name), rows, labels, self._parts.view.root)

    # -- publishing ------------------------------------------------------------------------------

    def check_may_publish(self, name: str, version: int | None) -> None:
        """Check what can be told before the bytes have come; see `ModelControl`."""
        self._intake().check_free(name, version)

    async def publish(
        self,
        name: str,
        upload: UploadRequest,
        chunks: AsyncIterator[bytes],
        actor: str,
        progress: Callable[[str], None],
    ) -> PublishedRow:
        """Take a new version in, prove it and have it answer; see `ModelControl`."""
        intake = self._intake()
        known = self._shelves.get(name)
        above = max(known.found.versions, default=0) if known is not None else 0
        with intake.numbered(name, upload):
            try:
                source = await intake.take(name, upload, chunks, above, actor, progress)
            except Refused as error:
                self._note_refusal(name, error)
                raise
            return await self._put_in_service(name, source, actor, progress)

    async def _put_in_service(
        self, name: str, source: Source, actor: str, progress: Callable[[str], None]
    ) -> PublishedRow:
        """Have a version answer that was taken in, if it passes the other gates."""
        staged = source.staged
        assert staged is not None, "what was taken in is staged"

        def told(gate: Gate) -> None:
            progress(str(gate))

        try:
            version = await self.swap(name).publish(Order(source, "publish", actor, progress=told))
        except Refused as error:
            if error.code is not Code.CONFLICT:  # which says that it is another version's number
                error.numbers["version"] = staged.version
                self._note_refusal(name, error)
                await self._intake().refused(staged, actor, error.message)
            raise
        finally:
            if not source.begun:
                await clear_up(source, self._tools)
        self._label(self.shelf(name))
        return PublishedRow(name, version.number, source.spec.digest, version.numbers)

    def _note_refusal(self, name: str, error: Refused) -> None:
        number = error.numbers.get("version")
        if number is not None:
            self.shelf(name).failed[int(number)] = error.message

    async def rollback(self, name: str, actor: str) -> int:
        """Have the version before answer again; see `ModelControl`."""
        if not self._plan.allow_publish and not self._plan.explicit_models:
            raise AccessDenied(NO_PUBLISHING)
        shelf = self._known(name)
        if shelf.swap is not None:
            with contextlib.suppress(Conflict):  # none is kept in memory
                return (await shelf.swap.rollback(actor)).number
        number = shelf.before()
        if number is None:
            raise Conflict(
                f"there is no version of model {name!r:.80} to go back to; "
                "publish or load the one that is to answer"
            )
        spec = shelf.found.versions[number]
        assert isinstance(spec, ModelSpec)
        source = await self._tools.offload(self._parts.view.source, spec)
        order = Order(source, "rollback", actor, proven=True)
        return (await self.swap(name).publish(order)).number

    # -- loading and unloading -------------------------------------------------------------------

    async def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], actor: str
    ) -> None:
        """Load a model from its folder; see `ModelControl`."""
        self._check_explicit()
        if config is not None or files:
            raise InvalidRequest(
                "models are loaded as they lie in the folder, so `config` and `file:` cannot be "
                "given; publish a new version instead"
            )
        await self._refresh(name, actor, lambda _: True)

    async def unload(self, name: str, actor: str) -> None:
        """Let a model answer what it has begun, and take it out of memory; see `ModelControl`."""
        self._check_explicit()
        shelf = self._known(name)
        async with shelf.changing:
            await self._note_unloaded(shelf, actor)  # where that cannot be kept, nothing is done
            await self._let_go(shelf)

    async def _let_go(self, shelf: Shelf) -> None:
        swap, shelf.swap = shelf.swap, None
        going = list(shelf.versions)  # and none that is published meanwhile
        for version in going:
            self._tools.memory.hide(version)
        if swap is not None:
            await swap.close()
        steps = self.steps(shelf.name)
        await asyncio.gather(*(steps.retire(one) for one in going if one in shelf.versions))

    async def _gone(self, shelf: Shelf) -> None:
        """Let go of a model whose folder is not there any more, whether that can be kept or not."""
        async with shelf.changing:
            try:
                await self._note_unloaded(shelf, "")
            finally:
                await self._let_go(shelf)
                self.models.table = self.models.table.without_model(shelf.name)

    async def _note_unloaded(self, shelf: Shelf, actor: str) -> None:
        numbers = [one.number for one in shelf.versions if one.serving]
        if numbers:
            records = self._tools.records
            await self._tools.offload(records.unloaded, shelf.name, numbers, actor)

    async def _refresh(self, name: str, actor: str, is_new: Callable[[int], bool]) -> None:
        """Have loaded what is to be loaded of a model as it lies there now.

        Args:
            name: the model's name.
            actor: whose doing it is.
            is_new: tells of a version that is loaded whether it is loaded again.

        Raises:
            NotFound: there is no such model.
            LoadFailed: the version that is to answer cannot be loaded.
        """
        found = await self._tools.offload(self._parts.view.one, name)
        if found is None:
            raise _unknown(name)
        shelf = self.shelf(name)
        async with shelf.changing:
            self.know(found)
            if found.broken is not None:
                self.steps(name).expect(None)
                raise found.broken
            rows = await self._tools.offload(self._tools.records.versions, name)
            active = shelf.active(row.version for row in rows)
            self.steps(name).expect(active)
            served = shelf.served
            beside = self._beside(shelf)
            if active is not None and (served is None or served.number != active or is_new(active)):
                source = await self._tools.offload(self._source, found, active)
                await self._switch_to(shelf, source, actor)
            await beside.bring_in(beside.wanted(), is_new)
            await beside.take_out()

    async def _switch_to(self, shelf: Shelf, source: Source, actor: str) -> None:
        number = source.spec.version
        try:
            await self.swap(shelf.name).publish(Order(source, "load", actor))
        except Refused as error:
            shelf.failed[number] = error.message
            raise

    def _source(self, found: FoundModel, number: int) -> Source:
        spec = found.versions[number]
        if isinstance(spec, LoadFailed):
            raise spec
        return self._parts.view.source(spec)

    async def _seen(self, name: str, changed: frozenset[int | None]) -> None:
        """Follow what was changed in the folder: versions, or what stands beside them (None)."""
        try:
            await self._refresh(name, "", lambda number: number in changed or None in changed)
        except NotFound:
            if name in self._shelves:
                await self._gone(self._shelves[name])
                del self._shelves[name]
                self._steps.pop(name, None)

    # -- small things ----------------------------------------------------------------------------

    def know(self, found: FoundModel) -> None:
        """Take in what lies in a model's folder."""
        shelf = self.shelf(found.name)
        shelf.found = found
        for warning in found.warnings:
            logger.warning("%s", warning)
        self._label(shelf)

    def _label(self, shelf: Shelf) -> None:
        specs = [one for one in shelf.found.versions.values() if isinstance(one, ModelSpec)]
        self._parts.label(shelf.name, specs[0].version_labels if specs else {})

    def _known(self, name: str) -> Shelf:
        shelf = self._shelves.get(name)
        if shelf is None:
            raise _unknown(name)
        return shelf

    def _intake(self) -> Intake:
        if self._parts.intake is None:
            raise AccessDenied(NO_PUBLISHING)
        return self._parts.intake

    def _check_explicit(self) -> None:
        if not self._plan.explicit_models:
            raise AccessDenied(NO_LOADING)


def _unknown(name: str) -> NotFound:
    return NotFound(f"unknown model {name!r:.80}")
