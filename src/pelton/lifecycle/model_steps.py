"""The steps of a swap, done with real models: loaded beside the old, judged, recorded, drained."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pelton.engine.model import StandIn
from pelton.engine.model_states import State
from pelton.engine.models import Models
from pelton.errors import PeltonError
from pelton.lifecycle.facts import Fact
from pelton.lifecycle.judging import judge
from pelton.lifecycle.memory import Memory
from pelton.lifecycle.observing import Observing, RecordingPlan, now_s
from pelton.lifecycle.probation import Probation, ProbationPlan
from pelton.lifecycle.shelf import Shelf
from pelton.lifecycle.swap_steps import Numbers, SwapTimes, Switched
from pelton.lifecycle.unhurried import Offload, unhurried
from pelton.lifecycle.version import Source, Version
from pelton.lifecycle.version_records import VersionRecords
from pelton.messages import InferRequest
from pelton.records import Swap
from pelton.repository.publishing import Publisher
from pelton.repository.scan import FoundModel
from pelton.routing.policy import Latest

logger = logging.getLogger("pelton.lifecycle")

RECORD_AGAIN_S = (1.0, 5.0, 30.0, 120.0)
"""When it is tried again to put on record that a version was taken back; the last for ever."""


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """How versions are exchanged.

    Attributes:
        times: how long the parts of it may take.
        probation: what a new version has to keep to.
        recording: which requests the next version has to answer.
        observes: whether requests are watched, for the two above.
        stands_in: whether the version before answers what one on probation fails.
    """

    times: SwapTimes = field(default_factory=SwapTimes)
    probation: ProbationPlan = field(default_factory=ProbationPlan)
    recording: RecordingPlan = field(default_factory=RecordingPlan)
    observes: bool = False
    stands_in: bool = True


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps of all models work with.

    Attributes:
        models: where requests find versions.
        memory: where versions live.
        records: who puts on record which version answers.
        publisher: what clears up behind versions that were received; None where none are.
        survey: looks at one model on disk; blocks.
        known: told of each name before it may be asked for.
        plan: how versions are exchanged.
        offload: calls what blocks.
    """

    models: Models
    memory: Memory
    records: VersionRecords
    publisher: Publisher | None
    survey: Callable[[str], FoundModel | None]
    known: Callable[[str], None]
    plan: SwapPlan = field(default_factory=SwapPlan)
    offload: Offload = unhurried


class ModelSteps:
    """The `Steps` of one model's swap."""

    def __init__(self, shelf: Shelf, tools: Tools) -> None:
        """Make them.

        Args:
            shelf: what is known of the model.
            tools: what they work with.
        """
        self._shelf = shelf
        self._tools = tools
        self._memory = tools.memory
        self._observing = Observing(tools.plan.recording, self._see, self._minds_nonfinite)
        self._patience_s = math.inf  # of callers, with a version on probation
        self._unrecorded: list[Swap] = []
        self._recording: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._one_by_one = asyncio.Lock()

    # -- before the switch -----------------------------------------------------------------------

    def expect(self, active: int | None) -> None:
        """Have the model known by the version that is to answer, be it loaded in the end or not.

        So who asks for one that is broken hears that it is not ready, and not that there is none;
        nor does another stand in for it, which may be the very version that was taken back.

        Args:
            active: that version; None where none can be told.
        """
        models, name = self._tools.models, self._shelf.name
        if not models.versions_of(name):
            models.table = models.table.with_versions(name, (), active)

    async def load(self, source: Source) -> Version:
        """Load a version beside the one that answers; see `Steps`."""
        source.begun = True
        version = self.version_of(source)
        self._shelf.versions.append(version)
        try:
            served = self._shelf.served
            if served is not None:
                await self._memory.hold(served)
            await self._memory.load(version)
        except BaseException:
            await self._gone(version)
            self._let_served_go()
            raise
        version.move(State.WARMING)
        return version

    def version_of(self, source: Source) -> Version:
        """Return a version that is about to be loaded, which is watched if any are."""
        version = Version(source)
        if self._tools.plan.observes:
            version.watch = self._observing.watch_of(version)
            version.died = functools.partial(self._died, version)
            if self._tools.plan.stands_in:
                version.stand_in = functools.partial(self._stand_in, version)
        return version

    async def warm(self, candidate: Version) -> None:
        """Have it run before anybody waits for its answers; see `Steps`."""
        await self._memory.warm(candidate)

    async def judge(self, candidate: Version, running: Version | None) -> Numbers:
        """Have it answer golden requests; see `Steps`."""
        recorded = self._observing.goldens()
        return await judge(candidate, running, recorded, self._memory, self._tools.offload)

    async def commit(self, switched: Switched[Version]) -> None:
        """Rename the version into its place, and put on record that it answers; see `Steps`."""
        await self._record()
        staged, swap = switched.after.source.staged, self._as_swap(switched)
        if staged is None:
            await self._tools.offload(self._tools.records.switched, swap)
        else:
            await self._tools.offload(self._tools.records.put_in_place, staged, swap)
            with contextlib.suppress(PeltonError):
                found = await self._tools.offload(self._tools.survey, swap.model)
                self._shelf.found = found or self._shelf.found
        self._shelf.switched(swap)
        switched.after.numbers = switched.numbers

    # -- the switch ------------------------------------------------------------------------------

    def switch(self, version: Version) -> None:
        """Give all requests from now on to this version; see `Steps`."""
        version.move(State.READY)
        self._tools.known(version.name)
        self._memory.switch(version)
        if self._shelf.served is None:
            self._memory.let_go(version)

    def switched_back(self, switched: Switched[Version]) -> None:
        """Have it recorded that the version before answers again; see `Steps`."""
        if switched.before is not None and switched.before.model is not None:
            switched.before.model.let_go()
        swap = self._as_swap(switched)
        self._shelf.switched(swap)
        self._unrecorded.append(swap)
        if self._recording is None or self._recording.done():
            work = self._record_until_it_is()
            self._recording = asyncio.get_running_loop().create_task(work)

    async def _record(self) -> None:
        """Put on record, in order, what was taken back."""
        async with self._one_by_one:
            while self._unrecorded:
                await self._tools.offload(self._tools.records.switched, self._unrecorded[0])
                del self._unrecorded[0]

    async def _record_until_it_is(self) -> None:
        pauses_s = itertools.chain(RECORD_AGAIN_S, itertools.repeat(RECORD_AGAIN_S[-1]))
        while self._unrecorded:
            is_last = self._ending.is_set()
            try:
                await self._record()
            except PeltonError as error:
                name = self._shelf.name
                logger.error("model %s: what is not on record yet: %s", name, error.message)
                if is_last:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), next(pauses_s))

    def probation(self, before: Version) -> Probation:
        """Start the probation of a version that comes after this one; see `Steps`."""
        usual = replace(before.recent.baseline(), worker_bytes=self.worker_bytes(before))
        probation = Probation(self._tools.plan.probation, usual, now_s())
        self._patience_s = probation.patience_s
        return probation

    def worker_bytes(self, version: Version) -> int:
        """Return the memory of its worker processes; see `Steps`."""
        return 0 if version.model is None else version.model.worker_bytes

    # -- after it --------------------------------------------------------------------------------

    async def drain(self, version: Version) -> None:
        """Wait until all requests that it has taken are answered; see `Steps`."""
        if not self.stays(version):
            version.leave()
            self._memory.hide(version)
            self._have_found(version.number)
            await self._memory.drained(version)

    def _have_found(self, number: int) -> None:
        """Have requests find a version again that has stood behind a newer load of itself."""
        behind = self._shelf.live(number)
        found = self._tools.models.get(self._shelf.name, number)
        if found is None and behind is not None and behind.serving and behind.model is not None:
            self._memory.add(behind)

    async def close(self, version: Version) -> None:
        """Give its memory back, unless it stays for those who ask for its number; see `Steps`."""
        if version.serving and self.stays(version):
            self._memory.let_go(version)
        else:
            await self._memory.close(version)
            await self._gone(version)
        self._let_served_go()

    async def retire(self, version: Version) -> None:
        """Close a version that is of no use any more, once it has answered what it has taken."""
        version.leave()
        self._memory.hide(version)
        try:
            async with asyncio.timeout(self._tools.plan.times.drain_timeout_s):
                await self._memory.drained(version)
        except TimeoutError:
            logger.warning("version %d of %s is closed while it runs", version.number, version.name)
        await self._memory.close(version)
        await self._gone(version)

    async def ended(self) -> None:
        """Have it tried once more, at once, to put on record what is not; wait for that."""
        self._ending.set()
        if self._recording is not None:
            await asyncio.wait({self._recording})

    def stays(self, version: Version) -> bool:
        """Tell whether somebody may ask for it by its number: the policy, or a route, names it."""
        shelf, models = self._shelf, self._tools.models
        if any(other.serving for other in shelf.versions if _replaces(other, version)):
            return False
        named = models.table.named_versions(shelf.name)
        wanted = version.number in shelf.chosen() and version.number not in shelf.withdrawn
        return wanted or version.number in named

    def _let_served_go(self) -> None:
        """Allow the version that answers to be unloaded, unless it may soon not answer any more."""
        swap, shelf = self._shelf.swap, self._shelf
        settled = all(one.serving for one in shelf.versions)
        if swap is not None and swap.served is not None and swap.kept is None and settled:
            self._memory.let_go(swap.served)

    async def _gone(self, version: Version) -> None:
        if version.standing.state in (State.READY, State.DRAINING):
            self._shelf.were_loaded.add(version.number)
        version.left()
        if version in self._shelf.versions:
            self._shelf.versions.remove(version)
        await clear_up(version.source, self._tools)

    # -- requests --------------------------------------------------------------------------------

    def _see(self, version: Version, fact: Fact) -> bool:
        swap = self._shelf.swap
        if swap is None:
            return False
        swap.see(version, fact)
        return swap.on_probation or swap.stand_in(version) is not None

    def _minds_nonfinite(self, version: Version) -> bool:
        before = None if self._shelf.swap is None else self._shelf.swap.stand_in(version)
        if before is None or self._tools.plan.probation.max_nonfinite:
            return False
        return not before.recent.baseline().nonfinite

    def _died(self, version: Version) -> None:
        version.recent.died()
        if self._shelf.swap is not None:
            self._shelf.swap.died(version)

    def _stand_in(self, version: Version, request: InferRequest) -> StandIn | None:
        other = None if self._shelf.swap is None else self._shelf.swap.stand_in(version)
        if other is None or request.version is not None:
            return None
        route = self._tools.models.table.routes.get(request.model)
        if route is not None and not isinstance(route.policy, Latest):
            return None
        return StandIn(other.number, self._patience_s)

    def _as_swap(self, switched: Switched[Version]) -> Swap:
        before = None if switched.before is None else switched.before.number
        at_s = self._tools.records.now()
        told = dict(switched.numbers)
        after, cause, actor = switched.after.number, switched.cause, switched.actor
        return Swap(self._shelf.name, before, after, cause, told, at_s, actor)


async def clear_up(source: Source, tools: Tools) -> None:
    """Remove what was received and is not published, or the link to it where it is."""
    staged, publisher = source.staged, tools.publisher
    if staged is None or publisher is None:
        return
    try:
        await tools.offload(publisher.discard, staged)
    except PeltonError as error:
        logger.warning("version %d of %s: %s", staged.version, staged.model, error.message)


def _replaces(other: Version, version: Version) -> bool:
    return other is not version and other.number == version.number
