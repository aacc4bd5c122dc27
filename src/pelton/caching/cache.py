"""The result cache of one loaded version of a model.

    key -> memory -> in flight? -> Redis -> compute -> keep

A hit in memory is answered without waiting for anything: no task, no lock, no thread.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pelton.caching.encoding import NotPlain
from pelton.caching.entry import Entry, TooLarge, entry_of
from pelton.caching.in_flight import InFlight
from pelton.caching.key import ON_LOOP_BYTES, Keys, weight_bytes
from pelton.caching.memory import MemoryStore
from pelton.clock import Clock
from pelton.messages import InferRequest, InferResponse, Value
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


class _Found(NamedTuple):
    """An answer: as it was computed, as an entry, or both."""

    response: InferResponse | None
    entry: Entry | None


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
        self._model = metadata.name
        self._version = metadata.version
        self._keys = Keys(metadata.name, metadata.version, identity)
        self._ttl_s = ttl_s
        self._clock = clock
        self._timeout_s = timeout_s
        self._far = far
        self._in_flight: InFlight[_Found] = InFlight(clock)

    async def answer(
        self, request: InferRequest, inputs: Mapping[str, Value], tenant: str, compute: Compute
    ) -> tuple[InferResponse, How]:
        """Answer one request.

        Args:
            request: what is asked; its parameters are those that may change the answer.
            inputs: its inputs, checked; nobody else may write to them any more.
            tenant: who asks; tenants share nothing.
            compute: has the model run; gives the wanted outputs in the order asked for.

        Returns:
            The answer, and where it came from. Arrays of one that was not computed for this
            request are read-only.

        Raises:
            DeadlineExceeded: the time was over while the same was computed for another one.
            PeltonError: what `compute` raised, for this request or for one with the same content.
        """
        asked = (tenant, inputs, request.outputs, request.parameters)
        if weight_bytes(inputs) > ON_LOOP_BYTES:
            key = await asyncio.to_thread(self._keys.key, *asked)
        else:
            key = self._keys.key(*asked)
        if key is None:
            self.counts.uncacheable += 1
            self.counts.misses += 1
            return await compute(), How.MISS
        entry = self.memory.get(key)
        if entry is not None:
            self.counts.hits += 1
            return self._reply(entry, request), How.HIT
        return await self._answer_anew(key, request, compute)

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
        if found.entry is None:  # what was computed for the other one is its alone
            self.counts.misses += 1
            return await compute(), How.MISS
        reply = self._reply(found.entry, request)
        reply.timing.queue_s = self._clock() - begun_s
        if shared:
            self.counts.shared += 1
            return reply, How.SHARED
        self.counts.hits += 1
        return reply, How.HIT

    async def _find(self, key: bytes, compute: Compute) -> _Found:
        kept_meanwhile = self.memory.get(key)  # while this one waited for another that gave up
        if kept_meanwhile is not None:
            return _Found(None, kept_meanwhile)
        if self._far is not None:
            kept = await self._far.get(key)
            if kept is not None:
                entry, left_s = kept
                self._keep(key, entry, min(left_s, self._ttl_s))
                return _Found(None, entry)
        self.counts.misses += 1
        response = await compute()
        found = self._entry_for(key, response)
        if found is not None and self._keep(key, found, self._ttl_s) and self._far is not None:
            self._far.put(key, found, self._ttl_s)
        return _Found(response, found)

    def _keep(self, key: bytes, entry: Entry, ttl_s: float) -> bool:
        kept = self.memory.put(key, entry, ttl_s)
        self.counts.stored += kept
        return kept

    def _entry_for(self, key: bytes, response: InferResponse) -> Entry | None:
        """Return an answer as it can be kept, or at least be given to those who wait for it."""
        answer = (response.outputs, response.digest)
        try:
            return entry_of(*answer, self.memory.largest_bytes)
        except TooLarge:
            self.counts.too_large += 1
        except NotPlain:
            return None
        if not self._in_flight.anyone_waits(key):
            return None
        try:
            return entry_of(*answer)
        except NotPlain:
            return None

    def _reply(self, entry: Entry, request: InferRequest) -> InferResponse:
        return InferResponse(
            self._model, self._version, entry.outputs, request.id, digest=entry.digest
        )


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
