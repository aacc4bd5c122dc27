"""Requests with signed objects: each is given to a worker process of its own, past the lane.

What they hold nobody has looked into, so they are neither batched nor checked nor kept, and no
other version is shown a copy.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Protocol

from pelton.clock import Clock
from pelton.engine.workers import Workers
from pelton.messages import InferRequest, Timing, Value
from pelton.runtimes.contract import Stop


class SingleUseWorkers(Protocol):
    """Workers for one request each; its methods block."""

    def run(
        self, parts: Sequence[memoryview], deadline_s: float, log_id: str, stop: Stop | None
    ) -> tuple[float, dict[str, Value]]:
        """Unpickle an object and run the model on it.

        Returns:
            Seconds of computing, and the outputs by name.

        Raises:
            PeltonError: as `InferRequest`s end, or because too many are under way.
        """
        ...

    def close(self) -> None:
        """End all of them."""


class SignedRuns:
    """Answers the signed requests for one version of a model."""

    def __init__(
        self, workers: SingleUseWorkers, most_at_once: int, timeout_s: float, clock: Clock
    ) -> None:
        """Take over the workers.

        Args:
            workers: started already; closed with this.
            most_at_once: so many requests they work on; they refuse more.
            timeout_s: the longest that any request may take.
            clock: the server's.
        """
        self._workers = workers
        # One is there to tell the next caller that the others are busy.
        self._threads = Workers(most_at_once + 1, "signed")
        self._timeout_s = timeout_s
        self._clock = clock

    async def answer(self, request: InferRequest) -> tuple[dict[str, Value], Timing]:
        """Run the model on a signed object; who sent it has been made sure of.

        Returns:
            Every output by name, and where the time went.

        Raises:
            InvalidRequest: it cannot be unpickled, or is refused by the model.
            DeadlineExceeded: the time is over; the worker was killed.
            ModelFailed: the object or the model raised, or ended the worker.
            Unavailable: too many signed objects are being worked on.
        """
        began_s = self._clock()
        deadline_s = min(request.deadline_s, began_s + self._timeout_s)
        stop = Stop()
        run = functools.partial(self._workers.run, request.signed, deadline_s, request.log_id, stop)
        try:
            compute_s, outputs = await self._threads.run(run)
        except asyncio.CancelledError:
            stop.ask()
            raise
        queue_s = max(0.0, self._clock() - began_s - compute_s)
        return outputs, Timing(queue_s=queue_s, compute_s=compute_s)

    def close(self) -> None:
        """End the workers, and wait for that; requests under way fail."""
        self._workers.close()
        self._threads.close()
