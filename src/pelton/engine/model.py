"""One served model: quick answers right on the event loop, all others by way of its lane."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pelton.batching.stacking import rows_of
from pelton.clock import Clock
from pelton.engine.batch import Answer
from pelton.engine.guard import guarded
from pelton.engine.lane import Lane, most_batch_rows
from pelton.engine.placement import SAMPLES, Placement
from pelton.errors import DeadlineExceeded, PeltonError
from pelton.messages import InferRequest, Timing, Value
from pelton.runtimes.contract import Instance, LoadedModel
from pelton.runtimes.warm_up import zeros_for
from pelton.specs import ModelMetadata, Serving

logger = logging.getLogger("pelton.engine")


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


class Model:
    """Answers the requests for one model.

    Attributes:
        metadata: what the model says of itself.
        deterministic: whether the same requests must give the same bits.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        instances: Sequence[Instance],
        serving: Serving,
        clock: Clock,
        quick: LoadedModel | None = None,
    ) -> None:
        """Put a model together.

        Args:
            metadata: what it says of itself.
            instances: where it runs; at least one, and just one if it is deterministic.
            serving: how it is served.
            clock: the server's, on which deadlines are.
            quick: the model itself, where it is in this process and may run on the event loop
                once it has been measured to be fast.
        """
        self.metadata = metadata
        self.deterministic = serving.deterministic
        self._instances = tuple(instances)
        self._timeout_s = serving.request_timeout_s
        self._clock = clock
        self._lane = Lane(metadata, instances, serving, clock)
        self._waiting = self._lane.line
        self._placement = Placement()
        self._quick = None if serving.deterministic else quick
        self._shares = most_batch_rows(metadata, serving) > 1

    @property
    def ready(self) -> bool:
        """Whether an instance is there to run it."""
        return any(instance.alive for instance in self._instances)

    async def run(
        self, inputs: Mapping[str, Value], request: InferRequest
    ) -> tuple[Answer, Timing]:
        """Have the model run for one request.

        Args:
            inputs: checked inputs.
            request: whose they are.

        Returns:
            Every output by name, and where the time went.

        Raises:
            DeadlineExceeded: its time was over before it had an answer.
            Unavailable: too many wait already, or the worker that ran it died.
            PeltonError: what the model itself wants to tell its caller.
            ModelFailed: the model raised anything else, which is its `__cause__` where known.
        """
        arrived_s = self._clock()
        if request.deadline_s <= arrived_s:
            raise DeadlineExceeded("the time that was allowed for the request was over at once")
        deadline_s = min(request.deadline_s, arrived_s + self._timeout_s)
        if self._quick is None:
            return await self._lane.run(inputs, request, deadline_s)
        input_bytes = 0
        for value in inputs.values():
            input_bytes += value.nbytes
        if self._placement.on_loop(input_bytes) and not self._waiting:
            outputs = guarded(self.metadata.name, self._quick.run, inputs)
            compute_s = self._clock() - arrived_s
            self._placement.learn(input_bytes, compute_s)
            rows = rows_of(inputs) if self._shares else 1
            self._lane.counts.runs += 1
            self._lane.counts.rows += rows
            return Answer(outputs, rows, compute_s), Timing(compute_s=compute_s)
        answer, timing = await self._lane.run(inputs, request, deadline_s)
        if answer.model_s:
            self._placement.learn(input_bytes, answer.model_s)
        return answer, timing

    def warm_up(self) -> None:
        """Run a quick model on zeros, so that the first request meets a warm one.

        Inputs that cannot be made up are no harm, nor is a refusal, since real requests may have
        a shape that zeros of the smallest allowed shape do not. A worker process warms itself.
        """
        zeros = zeros_for(self.metadata) if self._quick is not None else {}
        if self._quick is None or not zeros:
            return
        input_bytes = sum(value.nbytes for value in zeros.values())
        for _ in range(SAMPLES + 1):
            started_s = self._clock()
            try:
                guarded(self.metadata.name, self._quick.run, zeros)
            except PeltonError as error:
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise error.__cause__ from None
                logger.debug("warm-up of model %s was refused: %s", self.metadata.name, error)
                return
            self._placement.learn(input_bytes, self._clock() - started_s)

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
        )

    def close(self) -> None:
        """Wait for what its threads run, end its workers, and give the memory back."""
        self._lane.close()
        for instance in self._instances:
            instance.close()
