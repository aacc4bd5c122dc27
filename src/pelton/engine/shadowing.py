"""What follows from a choice: a copy for a shadow, and a record of who was assigned what.

A shadow is a version that sees copies of requests and never answers. It is the first to be shed:

* At most `MOST_IN_FLIGHT` copies are under way in the whole server.
* None is made while somebody waits in line for the shadow, or for the version that answers.
* Copies have the lowest priority, so that whoever comes soon after one is served before it.
* A copy is begun in a later turn of the event loop, and given up after `LONGEST_S`.

A copy holds no part of the request's body, whose memory other requests may need. What becomes of
copies is counted apart from what callers were told.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pelton.batching.line import LOWEST_LEVEL
from pelton.caching.encoding import NotPlain
from pelton.caching.entry import TooLarge, entry_of
from pelton.caching.key import ON_LOOP_BYTES, weight_bytes
from pelton.clock import Clock
from pelton.engine.infer import Chosen
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import PeltonError
from pelton.messages import InferRequest, Observe, Observed, Timing
from pelton.records import Exposure
from pelton.routing.choice import Choice
from pelton.routing.exposure import FirstExposures

logger = logging.getLogger("pelton.engine")

MOST_IN_FLIGHT = 4

MOST_BYTES = 64 * 1024 * 1024
"""Requests with more bytes of inputs than this are not copied."""

LONGEST_S = 10.0


@dataclass(slots=True)
class ShadowCounts:
    """What became of the requests that a shadow was to see.

    Attributes:
        answered: copies that the shadow answered.
        failed: copies that it did not answer, whatever the reason.
        shed: requests of which it got no copy, since others had need of the server, or since
            their inputs are too large or cannot be copied.
    """

    answered: int = 0
    failed: int = 0
    shed: int = 0


class Shadows:
    """Sends copies of requests to shadows.

    Attributes:
        counts: what became of them.
    """

    def __init__(self, models: Models, clock: Clock, observe: Observe) -> None:
        """Make what sends them.

        Args:
            models: what is loaded.
            clock: the server's, on which deadlines are.
            observe: told of every copy; another than the one that is told of requests.
        """
        self.counts = ShadowCounts()
        self._models = models
        self._clock = clock
        self._observe = observe
        self._in_flight: set[asyncio.Task[None]] = set()

    def send(self, request: InferRequest, choice: Choice) -> None:
        """Have a shadow see a copy of a request, if there is leisure for it; never waits."""
        model = self._at_leisure(choice)
        if model is None:
            self.counts.shed += 1
            return
        copying = functools.partial(_copied, request, self._clock() + LONGEST_S)
        if weight_bytes(request.inputs) <= ON_LOOP_BYTES:
            # Now, since a model may write to inputs that are its own.
            running = self._run(model, copying())
        else:
            running = self._copy_and_run(model, copying)
        model.enter()
        task = asyncio.get_running_loop().create_task(running, name="shadow")
        self._in_flight.add(task)
        task.add_done_callback(functools.partial(self._ended, model))

    async def settled(self) -> None:
        """Wait until no copy is under way."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _at_leisure(self, choice: Choice) -> Model | None:
        """Return the shadow if it is loaded and nobody waits, for it or for who answers."""
        if choice.shadow is None or len(self._in_flight) >= MOST_IN_FLIGHT:
            return None
        shadow = self._models.get(choice.model, choice.shadow)
        answering = self._models.get(choice.model, choice.version)
        if shadow is None or not shadow.ready or shadow.waiting:
            return None
        return None if answering is not None and answering.waiting else shadow

    async def _copy_and_run(self, model: Model, copying: Callable[[], InferRequest | None]) -> None:
        await self._run(model, await asyncio.to_thread(copying))

    async def _run(self, model: Model, request: InferRequest | None) -> None:
        if request is None:
            self.counts.shed += 1
            return
        try:
            answer, timing = await model.answer(request)
        except PeltonError as error:
            self.counts.failed += 1
            self._observe(Observed(model.name, error.code, Timing(), 0, model.version))
            which = (model.version, model.name, request.log_id)
            logger.debug("version %d of %s failed as a shadow, request %s: %s", *which, error)
            return
        self.counts.answered += 1
        self._observe(Observed(model.name, None, timing, answer.batch_rows, model.version))

    def _ended(self, model: Model, task: asyncio.Task[None]) -> None:
        model.leave()
        self._in_flight.discard(task)


def _copied(request: InferRequest, deadline_s: float) -> InferRequest | None:
    """Return a copy that shares no memory with the request; None where none can be made."""
    try:
        inputs = entry_of(request.inputs, limit_bytes=MOST_BYTES).frozen
    except (NotPlain, TooLarge):
        return None
    return InferRequest(
        request.model,
        inputs,
        deadline_s=deadline_s,
        priority=LOWEST_LEVEL,
        log_id=request.log_id,
    )


def make_chosen(
    shadows: Shadows, put: Callable[[Exposure], object] | None, wall_clock: Callable[[], float]
) -> Chosen:
    """Make what the engine tells of choices.

    Args:
        shadows: sends the copies.
        put: keeps an exposure, off the request's way; None where none are kept.
        wall_clock: returns the time at which they are kept, in seconds since 1970.
    """
    seen = FirstExposures()

    def chosen(request: InferRequest, choice: Choice) -> None:
        if choice.shadow is not None and not request.signed:
            shadows.send(request, choice)
        if put is not None and choice.unit:
            exposure = seen.first(choice, wall_clock())
            if exposure is not None:
                put(exposure)

    return chosen
