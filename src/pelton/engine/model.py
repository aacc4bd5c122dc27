"""One served model: quick answers right on the event loop, all others by way of its lane."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pelton.batching.stacking import rows_of
from pelton.caching.cache import ResultCache
from pelton.clock import Clock
from pelton.engine.batch import Answer, most_batch_rows
from pelton.engine.checks import checked_inputs
from pelton.engine.guard import guarded
from pelton.engine.lane import Lane
from pelton.engine.placement import SAMPLES, Placement, RunTimes
from pelton.engine.signed import SignedRuns
from pelton.engine.thread_instance import ThreadInstance
from pelton.errors import Code, DeadlineExceeded, PeltonError, Unavailable
from pelton.messages import InferRequest, Timing, Value
from pelton.runtimes.contract import Instance, LoadedModel, Stop, Stoppable
from pelton.runtimes.warm_up import zeros_for
from pelton.specs import ModelMetadata, Serving

logger = logging.getLogger("pelton.engine")


Watch = Callable[[InferRequest, Code | None, Timing | None, Mapping[str, Value] | None], bool]
"""Told of each request for which a version ran, or which it failed: why it failed, or where the
time went and what came out. Tells whether another version had better answer, where one may. Must be
quick and must not raise."""


class StandIn(NamedTuple):
    """Who answers a request if the version that it is for does not.

    Attributes:
        version: another version of the model.
        patience_s: how long a run of the version that it is for may take; infinity for any time.
    """

    version: int
    patience_s: float


@dataclass(frozen=True, slots=True)
class Form:
    """What all requests of one form have in common, whose inputs fit the model.

    Attributes:
        rows: how many each brings, as far as runs on the event loop count them.
        times: how long the model takes for inputs of their size; None for one that never runs
            on the event loop.
    """

    rows: int = 1
    times: RunTimes | None = None


Checked = tuple[Mapping[str, Value], Form]
"""Inputs that fit the model, and their form."""

REMEMBERED_FORMS = 256
"""Of each model; a client sends requests of one form, or of a few."""


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one model does and did.

    Attributes:
        queued_requests: requests that wait in its line now.
        queued_rows: their rows, as the line counts them.
        queued_bytes: bytes of their inputs.
        running: batches that are on instances now.
        runs: runs that gave outputs so far, those on the event loop included.
        rows: their rows; for a model that shares no runs, as many as its requests.
        mean_batch_rows: rows over runs; 0 before the first.
        expired: requests whose time was over before they had an answer.
        cancelled: requests whose callers left before.
        refused_full: requests that found no room in the line.
        instances: places where it runs.
        alive: how many of them can take a run.
        restarts: how often a worker process was started again.
        worker_bytes: memory that its worker processes have for themselves, as far as it is known.
    """

    queued_requests: int
    queued_rows: int
    queued_bytes: int
    running: int
    runs: int
    rows: int
    mean_batch_rows: float
    expired: int
    cancelled: int
    refused_full: int
    instances: int
    alive: int
    restarts: int
    worker_bytes: int


class Model:
    """Answers the requests for one model.

    Attributes:
        metadata: what the model says of itself.
        name: its name.
        version: its version.
        deterministic: whether the same requests must give the same bits.
        cache: keeps its answers; None where none are kept. Set by whoever loads it.
        watch: told what each request showed of this version; None while nobody wants to know.
        stand_in: says who may answer a request that this one fails, if anybody; None while nobody
            ever may.
        keeps_inputs: whether the inputs of a request are after a run what they were before.
        signed: answers requests with signed objects; None where it takes none. Set like the cache.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        instances: Sequence[Instance],
        serving: Serving,
        clock: Clock,
        inline: LoadedModel | None = None,
    ) -> None:
        """Put a model together.

        Args:
            metadata: what it says of itself.
            instances: where it runs; at least one, and just one if it is deterministic.
            serving: how it is served.
            clock: the server's, on which deadlines are.
            inline: the model itself, where it is in this process and any thread may run it. It
                runs on the event loop if it is `quick` and once it has been measured to be fast.
        """
        self.metadata = metadata
        self.name = metadata.name
        self.version = int(metadata.version)
        self.deterministic = serving.deterministic
        self.cache: ResultCache | None = None
        self.watch: Watch | None = None
        self.stand_in: Callable[[InferRequest], StandIn | None] | None = None
        in_threads = any(isinstance(one, ThreadInstance) for one in instances)
        self.keeps_inputs = inline is not None or not in_threads
        self.signed: SignedRuns | None = None
        self._asked = 0  # requests that were given to it and are not answered yet
        self._idle: asyncio.Event | None = None
        self._instances = tuple(instances)
        self._timeout_s = serving.request_timeout_s
        self._clock = clock
        self._lane = Lane(metadata, instances, serving, clock)
        self._waiting = self._lane.line
        self._placement = Placement()
        self._forms: dict[object, Form] = {}
        self._inline = None if serving.deterministic else inline
        self._quick = None if self._inline is None or not self._inline.quick else self._inline
        self._shares = most_batch_rows(metadata, serving) > 1

    @property
    def ready(self) -> bool:
        """Whether an instance is there to run it."""
        return any(instance.alive for instance in self._instances)

    @property
    def waiting(self) -> bool:
        """Whether requests wait in its line."""
        return bool(self._waiting)

    @property
    def worker_bytes(self) -> int:
        """Memory that its worker processes have for themselves, as far as it is known."""
        return sum(getattr(instance, "own_bytes", None) or 0 for instance in self._instances)

    def on_death(self, died: Callable[[], None]) -> None:
        """Set what is called when a worker process of it has ended by itself, or hung."""
        self._lane.on_death = died

    def let_go(self) -> None:
        """Have those who wait for it answered by another version, where one may."""
        self._lane.let_go()

    def enter(self) -> None:
        """Count a request that is given to it; `leave` follows."""
        self._asked += 1

    def leave(self) -> None:
        """Count a request that was given to it as answered."""
        self._asked -= 1
        if self._idle is not None and not self._asked:
            self._idle.set()
            self._idle = None

    async def drained(self) -> None:
        """Wait until every request that it was given is answered; give it no more before."""
        while self._asked:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    async def answer(
        self, request: InferRequest, checked: Checked | None = None
    ) -> tuple[Answer, Timing]:
        """Have the model run for a request.

        Args:
            request: the request.
            checked: what `checked` returned for it, if that was called before.

        Returns:
            Every output by name, and where the time went.

        Raises:
            InvalidRequest: the inputs do not fit the model.
            DeadlineExceeded: its time was over before it had an answer.
            Unavailable: too many wait already, the worker that ran it died, or it took so long that
                another version had better answer.
            PeltonError: what the model itself wants to tell its caller.
            ModelFailed: the model raised anything else, which is its `__cause__` where known.
        """
        if checked is None:
            checked = self.checked(request)
        if self.is_quick(checked):
            outputs, rows, timing = self.answer_at_once(request, checked)
            return Answer(outputs, rows, timing.compute_s), timing
        inputs, form = checked
        arrived_s = self._clock()
        if request.deadline_s <= arrived_s:
            raise _over_at_once()
        times = form.times
        deadline_s = min(request.deadline_s, arrived_s + self._timeout_s)
        other = None if self.stand_in is None else self.stand_in_for(request)
        if other is None:
            answer, timing = await self._lane.run(inputs, request, deadline_s)
        else:
            answer, timing = await self._in_patience(inputs, request, deadline_s, other.patience_s)
        if times is not None and answer.model_s:
            times.learn(answer.model_s)
        return answer, timing

    def stand_in_for(self, request: InferRequest) -> StandIn | None:
        """Return who may answer a request that this version fails.

        Nobody may where its inputs may have been written to by then.
        """
        if self.stand_in is None or request.signed or not self.keeps_inputs:
            return None
        return self.stand_in(request)

    async def _in_patience(
        self,
        inputs: Mapping[str, Value],
        request: InferRequest,
        deadline_s: float,
        patience_s: float,
    ) -> tuple[Answer, Timing]:
        try:
            return await self._lane.run(inputs, request, deadline_s, patience_s)
        except DeadlineExceeded:
            if patience_s == math.inf or self._clock() >= deadline_s:
                raise
            raise Unavailable(
                f"version {self.version} of model {self.name!r}, which is on probation, has not "
                f"answered within {patience_s:.3g} s"
            ) from None

    def is_quick(self, checked: Checked) -> bool:
        """Tell whether the model is to run right on the event loop for these inputs."""
        times = checked[1].times
        return times is not None and times.on_loop and not self._waiting

    def answer_at_once(
        self, request: InferRequest, checked: Checked
    ) -> tuple[dict[str, Value], int, Timing]:
        """Have the model run right on the event loop, alone; only where it is quick.

        Returns:
            Every output by name, its rows, and where the time went; for the rest see `answer`.
        """
        inputs, form = checked
        times, quick = form.times, self._quick
        assert times is not None
        assert quick is not None
        arrived_s = self._clock()
        if request.deadline_s <= arrived_s:
            raise _over_at_once()
        outputs = guarded(self.metadata.name, quick.run, inputs)
        compute_s = self._clock() - arrived_s
        times.learn(compute_s)
        counts = self._lane.counts
        counts.runs += 1
        counts.rows += form.rows
        return outputs, form.rows, Timing(compute_s=compute_s)

    def checked(self, request: InferRequest) -> Checked:
        """Return the inputs of a request as the model takes them, and their form.

        A form that was seen before is not looked at again.

        Raises:
            InvalidRequest: the inputs do not fit the model.
        """
        known = self._forms.get(request.form)
        return self._looked_at(request) if known is None else (request.inputs, known)

    def _looked_at(self, request: InferRequest) -> Checked:
        """Check inputs, and remember their form unless they had to be changed."""
        inputs = checked_inputs(request.inputs, self.metadata)
        if self._quick is None:
            form = Form()
        else:
            input_bytes = sum(value.nbytes for value in inputs.values())
            rows = rows_of(inputs) if self._shares else 1
            form = Form(rows, self._placement.of(input_bytes))
        unchanged = all(map(operator.is_, inputs.values(), request.inputs.values()))
        if request.form is not None and unchanged:
            if len(self._forms) >= REMEMBERED_FORMS:
                self._forms.clear()
            self._forms[request.form] = form
        return inputs, form

    def warm_up(self, stop: Stop | None = None) -> None:
        """Run a model of this process on zeros, so that the first request meets a warm one.

        Inputs that cannot be made up are no harm, nor is a refusal, since real requests may have
        a shape that zeros of the smallest allowed shape do not. A worker process warms itself.

        Args:
            stop: asked when nobody waits for it any more.
        """
        zeros = zeros_for(self.metadata) if self._inline is not None else {}
        if self._inline is None or not zeros:
            return
        stop = stop or Stop()
        run = _until(self._inline, stop)
        times = self._placement.of(sum(value.nbytes for value in zeros.values()))
        for _ in range(SAMPLES + 1):
            started_s = self._clock()
            try:
                guarded(self.metadata.name, run, zeros)
            except PeltonError as error:
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise error.__cause__ from None
                logger.debug("warm-up of model %s was refused: %s", self.metadata.name, error)
                return
            if stop.asked:
                return
            times.learn(self._clock() - started_s)

    def statistics(self) -> ModelStatistics:
        """Return what it does and did."""
        line, counts = self._lane.line, self._lane.counts
        return ModelStatistics(
            queued_requests=len(line),
            queued_rows=line.rows,
            queued_bytes=line.bytes,
            running=self._lane.running,
            runs=counts.runs,
            rows=counts.rows,
            mean_batch_rows=counts.rows / counts.runs if counts.runs else 0.0,
            expired=counts.expired,
            cancelled=counts.cancelled,
            refused_full=counts.refused_full,
            instances=len(self._instances),
            alive=sum(instance.alive for instance in self._instances),
            restarts=sum(getattr(instance, "restarts", 0) for instance in self._instances),
            worker_bytes=self.worker_bytes,
        )

    def close(self) -> None:
        """Wait for what its threads run, end its workers, and give the memory back."""
        if self.signed is not None:
            self.signed.close()
        self._lane.close()
        for instance in self._instances:
            instance.close()


def _until(loaded: LoadedModel, stop: Stop) -> Callable[[Mapping[str, Value]], dict[str, Value]]:
    """Return how a model is run, and ended before it is done where it can be."""
    if isinstance(loaded, Stoppable):
        return functools.partial(loaded.run_until, stop=stop)
    return loaded.run


def _over_at_once() -> DeadlineExceeded:
    return DeadlineExceeded("the time that was allowed for the request was over at once")
