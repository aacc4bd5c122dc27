"""The result cache of one loaded version of a model.

    key -> memory -> in flight? -> Redis -> compute -> keep

A hit in memory is answered without waiting for anything: no task, no lock, no thread.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from pelton.caching.encoding import NotPlain
from pelton.caching.entry import Entry, TooLarge, entry_of
from pelton.caching.in_flight import InFlight, Leading
from pelton.caching.key import ON_LOOP_BYTES, Keys, weight_bytes
from pelton.caching.memory import Kept, MemoryStore
from pelton.caching.packed import Packing, unpacked
from pelton.clock import Clock
from pelton.messages import InferRequest, InferResponse, Parameter, Value
from pelton.specs import ModelMetadata

Compute = Callable[[], Awaitable[InferResponse]]


class How(enum.StrEnum):
    """Where an answer came from, as the header tells it."""

    HIT = "hit"
    MISS = "miss"
    SHARED = "shared"


class FarStore(Protocol):
    """Keeps entries outside of this process; asking it never raises."""

    async def get(self, key: bytes) -> tuple[Entry, float] | None:
        """Return an entry and for how many seconds it is kept yet, or None."""

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        """Have an entry kept, if that can be; in the background."""


@dataclass(slots=True)
class Counts:
    """What happened so far.

    Attributes:
        hits: answers that were kept, in memory or in Redis.
        misses: answers that were computed, those included that failed.
        shared: answers to one who waited for the same question of another one.
        uncacheable: questions of which no key can be made; they count as misses too.
        stored: answers that were kept in memory.
        too_large: answers that were not, since they would take too much of it.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0
    uncacheable: int = 0
    stored: int = 0
    too_large: int = 0


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache does and did; see `Counts` for the first six.

    Attributes:
        evicted: answers that had to make room.
        expired: answers whose time was over when they were asked for.
        entries: answers that are kept in memory now.
        bytes: what they take.
    """

    hits: int
    misses: int
    shared: int
    uncacheable: int
    stored: int
    too_large: int
    evicted: int
    expired: int
    entries: int
    bytes: int


class Found(NamedTuple):
    """An answer: as it was computed, as it is kept, or both."""

    response: InferResponse | None
    kept: Kept | None


class ResultCache:
    """Answers from what was computed before, or has it computed.

    Attributes:
        counts: what happened so far.
        memory: what is kept in this process.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        identity: str,
        memory: MemoryStore,
        ttl_s: float,
        clock: Clock,
        timeout_s: float = math.inf,
        far: FarStore | None = None,
    ) -> None:
        """Make the cache of one loaded version.

        Args:
            metadata: of the model.
            identity: digest of the version's manifest; where it has none, a name that no other
                load of any model has.
            memory: for this cache alone, so that it goes with the model.
            ttl_s: how long an answer is kept.
            clock: the server's, on which deadlines are.
            timeout_s: the longest that a request may wait, whatever it says itself.
            far: where answers are kept besides, for other servers.
        """
        self.counts = Counts()
        self.memory = memory
        self._places = memory.places
        self._metadata = metadata
        self._keys = Keys(metadata.name, metadata.version, identity, told=far is not None)
        self._ttl_s = ttl_s
        self._clock = clock
        self._timeout_s = timeout_s
        self._far = far
        self._is_near = far is None
        self._in_flight: InFlight[Found] = InFlight(clock)
        self._led = self._in_flight.led
        self._packing = Packing()
        self._unkept: tuple[bytes, Mapping[str, Value]] | None = None
        self._settles_soon = False

    async def answer(
        self,
        request: InferRequest,
        inputs: Mapping[str, Value],
        parameters: Mapping[str, Parameter],
        compute: Compute,
    ) -> tuple[InferResponse, How]:
        """Answer one request.

        Args:
            request: what is asked, and by which tenant; tenants share nothing.
            inputs: its inputs, checked; nobody else may write to them any more.
            parameters: those that may change the answer.
            compute: has the model run; gives the wanted outputs in the order asked for.

        Returns:
            The answer, and where it came from. Arrays of one that was not computed for this
            request are read-only.

        Raises:
            DeadlineExceeded: the time was over while the same was computed for another one.
            PeltonError: what `compute` raised, for this request or for one with the same content.
        """
        key, kept, _ = self.look(request, inputs, parameters)
        if kept is not None:
            return kept, How.HIT
        if key is None and weight_bytes(inputs) > ON_LOOP_BYTES:
            asked = (request.tenant, inputs, request.outputs, parameters)
            key = await asyncio.to_thread(self._keys.key, *asked)
        if key is None:
            self.counts.uncacheable += 1
            self.counts.misses += 1
            return await compute(), How.MISS
        return await self._answer_anew(key, request, compute)

    # What `answer` does, step by step, for whoever need not wait for anybody: it takes half as
    # long without coroutines.

    def look(
        self,
        request: InferRequest,
        inputs: Mapping[str, Value],
        parameters: Mapping[str, Parameter],
    ) -> tuple[bytes | None, InferResponse | None, bool]:
        """Look for the answer to a question in memory; the arguments are those of `answer`.

        Returns:
            The key, or None: it has none, or making it takes a while. The answer, if it is kept.
            Where it is not, whether it is to be computed at once, since there is nobody to wait
            for: no other one who computes it, and no far store.
        """
        if self._unkept is not None:
            self.settle()
        key = None if parameters else self._keys.of_form(request, inputs)
        if key is None:
            if weight_bytes(inputs) > ON_LOOP_BYTES:
                return None, None, False
            if not parameters:
                self._keys.remember_form(request, inputs)
            key = self._keys.key(request.tenant, inputs, request.outputs, parameters)
            if key is None:
                return None, None, False
        if key in self._places and (kept := self.memory.get(key)) is not None:
            self.counts.hits += 1
            return key, self._reply(kept, request), False
        return key, None, self._is_near and key not in self._led

    def lead(self, key: bytes) -> Leading[Found]:
        """Have others who ask the same wait, for as long as the answer is computed.

        Returns:
            The context to do it in, with what `keep_for_all` returned as its result.
        """
        return self._in_flight.leading(key)

    def keep(self, key: bytes, response: InferResponse) -> None:
        """Keep an answer in memory for which nobody waits, once it is on its way.

        That is in the next turn of the event loop, or before anything else is looked for; so its
        reader need not wait for the copy, nor for what has to make room. Until then nobody may
        write to its arrays.
        """
        if response.digest:
            self.keep_for_all(key, response)
            return
        self._unkept = key, response.outputs.copy()
        if not self._settles_soon:
            self._settles_soon = True
            asyncio.get_running_loop().call_soon(self._settle_in_turn)

    def keep_for_all(self, key: bytes, response: InferResponse) -> Found:
        """Keep an answer in memory, and return it as it is given to those who wait for it."""
        entry = self._entry_for(key, response.outputs, response.digest)
        if entry is not None:
            self._keep(key, entry, self._ttl_s)
        return Found(response, entry)

    def _settle_in_turn(self) -> None:
        self._settles_soon = False
        self.settle()

    def settle(self) -> None:
        """Keep the answer that is still to be kept, if there is one."""
        unkept = self._unkept
        if unkept is None:
            return
        self._unkept = None
        key, outputs = unkept
        packing, memory = self._packing, self.memory
        try:
            packed = packing.pack(outputs, memory.largest_bytes)
            if packed is not None:
                self.counts.stored += memory.put(key, packed, packing.size_bytes, self._ttl_s)
            elif (entry := self._entry_for(key, outputs, "")) is not None:
                self._keep(key, entry, self._ttl_s)
        except MemoryError:  # whose answer it was has it, and who asks now has no part in it
            pass

    async def _answer_anew(
        self, key: bytes, request: InferRequest, compute: Compute
    ) -> tuple[InferResponse, How]:
        begun_s = self._clock()
        deadline_s = min(request.deadline_s, begun_s + self._timeout_s)
        found, shared = await self._in_flight.share(
            key, deadline_s, lambda: self._find(key, compute)
        )
        if not shared and found.response is not None:
            return found.response, How.MISS
        if found.kept is None:  # what was computed for the other one is its alone
            self.counts.misses += 1
            return await compute(), How.MISS
        reply = self._reply(found.kept, request)
        reply.timing.queue_s = self._clock() - begun_s
        if shared:
            self.counts.shared += 1
            return reply, How.SHARED
        self.counts.hits += 1
        return reply, How.HIT

    async def _find(self, key: bytes, compute: Compute) -> Found:
        kept_meanwhile = self.memory.get(key)  # while this one waited for another that gave up
        if kept_meanwhile is not None:
            return Found(None, kept_meanwhile)
        if self._far is not None:
            kept = await self._far.get(key)
            if kept is not None:
                entry, left_s = kept
                self._keep(key, entry, min(left_s, self._ttl_s))
                return Found(None, entry)
        self.counts.misses += 1
        response = await compute()
        found = self._entry_for(key, response.outputs, response.digest)
        if found is not None and self._keep(key, found, self._ttl_s) and self._far is not None:
            self._far.put(key, found, self._ttl_s)
        return Found(response, found)

    def statistics(self) -> CacheStatistics:
        """Return what it does and did."""
        self.settle()
        memory = self.memory
        return CacheStatistics(
            **asdict(self.counts),
            evicted=memory.evicted,
            expired=memory.expired,
            entries=len(memory),
            bytes=memory.bytes,
        )

    def _keep(self, key: bytes, entry: Entry, ttl_s: float) -> bool:
        kept = self.memory.put(key, entry, entry.size_bytes, ttl_s)
        self.counts.stored += kept
        return kept

    def _entry_for(self, key: bytes, outputs: Mapping[str, Value], digest: str) -> Entry | None:
        """Return an answer as it can be kept, or at least be given to those who wait for it."""
        try:
            return entry_of(outputs, digest, self.memory.largest_bytes)
        except TooLarge:
            self.counts.too_large += 1
        except NotPlain:
            return None
        if not self._in_flight.anyone_waits(key):
            return None
        try:
            return entry_of(outputs, digest)
        except NotPlain:
            return None

    def _reply(self, kept: Kept, request: InferRequest) -> InferResponse:
        metadata = self._metadata
        if isinstance(kept, Entry):
            outputs, digest = kept.outputs, kept.digest
        else:
            outputs, digest = unpacked(kept), ""
        reply = InferResponse(metadata.name, metadata.version, outputs, request.id)
        reply.digest, reply.metadata = digest, metadata
        return reply


def cacheable(metadata: ModelMetadata, deterministic: bool, forced: bool) -> bool:
    """Tell whether the answers of a model for which a cache is wanted may be kept.

    A model of arrays is taken to be a function of them. An object model runs whatever code its
    author wrote, so it counts as one only where it is served in deterministic mode.

    Args:
        metadata: of the model.
        deterministic: whether it is served so.
        forced: whether somebody said that its answers may be kept all the same.
    """
    return forced or deterministic or not metadata.takes_objects
