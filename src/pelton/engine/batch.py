"""Requests that share a run, and the fate of each of them.

    put into the line -> member of a batch -> answered, or failed, or left

A member that has left (its caller is gone, or its time is over) never touches its mates: the run
goes on for them, and its rows are dropped. When all have left, the run is asked to stop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from pelton.batching.line import Entry
from pelton.batching.padding import cut_back
from pelton.batching.stacking import NotInRows, split, stack
from pelton.clock import Clock
from pelton.errors import DeadlineExceeded, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Instance, Run
from pelton.specs import AUTO_BATCH_ROWS, ModelMetadata, Serving, TensorSpec

logger = logging.getLogger("pelton.engine")

Ran = Callable[[int, float, float], None]
"""Told of each run that gave outputs: its rows, and when it began and ended, in seconds."""


class Answer(NamedTuple):
    """What a run gave one of its requests.

    Attributes:
        outputs: every output by name.
        batch_rows: the rows of the run, those of other requests included.
        model_s: how long the model itself ran for this request; 0 where that is not known, since
            it shared the run or its instance does not measure it.
    """

    outputs: dict[str, Value]
    batch_rows: int
    model_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class Member(Entry):
    """One request, from the line to its answer.

    Attributes:
        inputs: checked inputs.
        log_id: its name in the log.
        done: its fate. Once that is settled it has left, whatever happens to its batch.
        batch: the batch that it is in, once it is in one.
        patience_s: how long its run may take before another version had better answer it; None
            where no other may.
    """

    inputs: Mapping[str, Value]
    log_id: str
    done: asyncio.Future[Answer]
    batch: Batch | None = None
    patience_s: float | None = None
    is_cut: bool = field(default=False, init=False)

    def begin(self, batch: Batch) -> None:
        """Take note that it runs; `is_cut` tells whether its time ends before its own deadline."""
        self.batch = batch
        if self.patience_s is not None:
            patient_until_s = batch.started_s + self.patience_s
            self.is_cut = patient_until_s < self.deadline_s
            self.deadline_s = min(self.deadline_s, patient_until_s)

    @property
    def left(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return self.done.done()

    def fail(self, error: Exception) -> None:
        """Tell it why it has no answer, unless it has left."""
        if not self.done.done():
            self.done.set_exception(error)

    def expire(self, now_s: float) -> None:
        """Tell it that its time is over, or that what is left of it would be of no use."""
        if self.deadline_s <= now_s:
            self.fail(DeadlineExceeded("the time that was allowed for the request is over"))
            return
        self.fail(
            DeadlineExceeded(
                f"of the time that was allowed for the request, {self.deadline_s - now_s:.3g} s "
                "were left when its turn came, which is less than any recent run of the model took"
            )
        )


class Batch:
    """Members on an instance: one run for all, or one for each once the run for all has failed.

    Attributes:
        members: who was taken out of the line together, in the order of their rows.
        rows: how many rows they have.
        started_s: when they left the line.
        not_in_rows: whether its outputs could not be told apart by request.
        model_s: how long the model itself took for the last run; 0 where that is not known.
    """

    def __init__(
        self,
        instance: Instance,
        members: Sequence[Member],
        clock: Clock,
        ran: Ran,
        padded: Sequence[TensorSpec] = (),
        hot_s: float = 0.0,
    ) -> None:
        """Make a batch of requests that have just left the line.

        Args:
            instance: free and alive.
            members: at least one, all of the same group.
            clock: the server's.
            ran: told of each run.
            padded: the model's outputs, where inputs are filled up to a common length.
            hot_s: how long the event loop may wait for its first run in one place.
        """
        self.members = members
        self.rows = sum([member.rows for member in members])
        self.started_s = clock()
        self.not_in_rows = False
        self.model_s = 0.0
        self._instance = instance
        self._clock = clock
        self._ran = ran
        self._padded = padded
        self._sharing = members
        self._run: Run | None = None
        self._given_up = False
        self._hot_s = hot_s

    async def carry_out(self) -> None:
        """Settle the fate of every member."""
        try:
            failure = await self._attempt(self.members)
            if failure is None:
                return
            if len(self.members) == 1:
                self.members[0].fail(failure)
                return
            if isinstance(failure, Unavailable):
                _fail_all(self.members, failure)
                return
            self.not_in_rows = isinstance(failure, NotInRows)
            logger.info("%s; the %d requests of its batch run alone", failure, len(self.members))
            del failure  # its traceback holds the inputs of all
            for member in self.members:
                await self._alone(member)
        finally:
            for member in self.members:
                member.done.cancel()  # does nothing, unless the event loop is being ended
            self.members = self._sharing = ()

    async def _alone(self, member: Member) -> None:
        if member.left:
            return
        if member.deadline_s <= (now_s := self._clock()):
            member.expire(now_s)
        elif not self._instance.alive:
            member.fail(Unavailable("the model's worker ended while it ran the request's batch"))
        elif (failure := await self._attempt([member])) is not None:
            member.fail(failure)

    async def _attempt(self, members: Sequence[Member]) -> Exception | None:
        """Run members together and answer those that are still there, or say why not."""
        inputs = [member.inputs for member in members]
        rows = [member.rows for member in members]
        try:
            begun_s = self._clock()
            run = Run(
                partial(stack, inputs) if len(inputs) > 1 else inputs[0],
                max([member.deadline_s for member in members]),
                tuple([member.log_id for member in members]),
                self._hot_s,
            )
            self._sharing, self._run = members, run
            outputs = await self._instance.run(run)
            self._ran(sum(rows), begun_s, self._clock())
            self.model_s = run.compute_s
            parts = split(outputs, rows)
            if self._padded:
                cut_back(parts, inputs, self._padded)
            model_s = run.compute_s if len(parts) == 1 else 0.0
            for member, part in zip(members, parts, strict=True):
                if not member.left:
                    member.done.set_result(Answer(part, sum(rows), model_s))
        # Whatever an instance or a model's outputs break must reach those who wait for them.
        except Exception as error:  # noqa: BLE001
            return error
        finally:
            self._run = None
            del members, inputs  # an error's traceback holds this frame, and they hold the error
        return None

    def one_left(self) -> None:
        """Ask the run to stop if nobody is left to wait for it."""
        if self._run is not None and all(member.left for member in self._sharing):
            self._run.stop.ask()

    def next_s(self, grace_s: float) -> float:
        """Return when `check` has to be called at the latest; infinity for never.

        Args:
            grace_s: how long after its own deadline a run may still go on.
        """
        next_s = math.inf
        if self._run is not None and not self._given_up:
            next_s = self._run.deadline_s + grace_s
        for member in self.members:
            if member.deadline_s < next_s and not member.left:
                next_s = member.deadline_s
        return next_s

    def is_stuck(self, now_s: float) -> bool:
        """Tell whether it has taken so long that another version had better answer its members."""
        return any(member.is_cut and member.deadline_s <= now_s for member in self.members)

    def check(self, now_s: float, grace_s: float) -> int:
        """Expire members whose time is over, and give up a run that hangs.

        Args:
            now_s: the time.
            grace_s: how long after its own deadline a run may still go on.

        Returns:
            How many members expired.
        """
        over = [one for one in self.members if one.deadline_s <= now_s and not one.left]
        for member in over:
            member.expire(now_s)
        if over:
            self.one_left()
        if self._run is not None and not self._given_up:
            self._given_up = self._run.deadline_s + grace_s <= now_s
            if self._given_up:
                self._instance.give_up()
        return len(over)


def _fail_all(members: Sequence[Member], failure: Unavailable) -> None:
    for member in members:
        # Each caller raises its own, or all of them would write into one traceback.
        member.fail(Unavailable(failure.message, failure.retry_after_s))


def most_batch_rows(metadata: ModelMetadata, serving: Serving) -> int:
    """Return the most rows of one run; 1 where requests do not share runs."""
    if serving.deterministic:
        return 1
    if serving.batching.max_batch_rows:
        return serving.batching.max_batch_rows
    return AUTO_BATCH_ROWS if metadata.batch_axis and not metadata.takes_objects else 1
