"""One model's way: requests wait in its line, share runs, and get their answers.

    run -> line -> window -> batch -> instance
                     ^                   |
                     +--- free again ----+

Two rules (`rate.ServiceRate`) keep a model that gets more than it can serve busy with answers
that are still of use. A request that has to wait behind others is refused at once (503) if by the
rate lately measured it would not be served in time. And when an instance becomes free, what waited
for it and has less time left than the shortest run lately seen is answered with 504, not started.
A request that finds an instance free is never refused, whatever was measured.

Nothing is polled. The lane looks at its line when a request comes, when an instance becomes free
or alive, and when its alarm rings.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pelton.batching.line import Line
from pelton.batching.rate import ServiceRate
from pelton.batching.sharing import Sharing
from pelton.batching.stacking import bytes_of, group_of, rows_of
from pelton.batching.tuning import BatchBound
from pelton.batching.window import Load, WindowPolicy, decide
from pelton.clock import Clock
from pelton.engine import eager
from pelton.engine.alarm import Alarm
from pelton.engine.batch import Answer, Batch, Member, most_batch_rows
from pelton.engine.hot_wait import HotWait
from pelton.errors import Unavailable
from pelton.messages import InferRequest, Timing, Value
from pelton.runtimes.contract import Instance
from pelton.specs import ModelMetadata, Serving

logger = logging.getLogger("pelton.engine")

LONGEST_RUNS = 3
"""A run hangs only if it is late by this many times the longest that was seen."""

TICK_S = 0.001
"""Event loops may count in milliseconds. Deadlines are looked at this much after they are over, so
that no timer rings too early, again and again."""


@dataclass(slots=True)
class Counts:
    """What happened in a lane since the start.

    Attributes:
        runs: runs that gave outputs.
        rows: rows of these runs.
        expired: requests whose time was over before they had an answer, or so nearly that they
            were not started any more.
        cancelled: requests whose callers left.
        refused_full: requests that found no room in the line, or too much ahead of them to be
            served in time.
    """

    runs: int = 0
    rows: int = 0
    expired: int = 0
    cancelled: int = 0
    refused_full: int = 0


class Lane:
    """Brings the requests for one model to its instances.

    Attributes:
        line: the requests that wait.
        counts: what happened so far.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        instances: Sequence[Instance],
        serving: Serving,
        clock: Clock,
    ) -> None:
        batching = serving.batching
        most_rows = most_batch_rows(metadata, serving)
        max_delay_s = batching.max_delay_ms / 1000
        self.line: Line[Member] = Line(
            serving.max_queue_rows, serving.max_queue_bytes, first_come=serving.deterministic
        )
        self.counts = Counts()
        self._name = metadata.name
        self._clock = clock
        self._shares = most_rows > 1
        self._pad = batching.pad
        self._padded = metadata.outputs if batching.pad else ()
        self._policy = WindowPolicy(
            most_rows, max_delay_s, batching.preferred_batch_rows, len(instances)
        )
        self._sharing = Sharing()
        self._bound: BatchBound | None = None
        if batching.target_p99_ms and self._shares:
            self._bound = BatchBound(most_rows, batching.target_p99_ms / 1000 - max_delay_s)
            self._policy = replace(self._policy, max_rows=self._bound.rows)
        self._rate = ServiceRate()
        self._hang_grace_s = serving.hang_grace_s
        self._free = list(instances)
        self._running_rows = 0
        self._running: dict[Batch, asyncio.Task[None] | None] = {}
        self._alarm = Alarm(clock, self._look)
        self._longest_s = 0.0
        self._hot = HotWait()
        self._came = 0  # requests so far
        self._beside_free: list[Member] = []
        self._dispatching = False
        self._instances = tuple(instances)
        self.on_death: Callable[[], None] | None = None
        for instance in instances:
            instance.on_change(self._changed)

    def _changed(self) -> None:
        if self.on_death is not None and not all(one.alive for one in self._instances):
            self.on_death()
        self._dispatch()

    async def run(
        self,
        inputs: Mapping[str, Value],
        request: InferRequest,
        deadline_s: float,
        patience_s: float | None = None,
    ) -> tuple[Answer, Timing]:
        """Have one request run.

        A caller that is cancelled leaves: a request that waits is taken out of the line, and the
        rows of one that runs are dropped.

        Args:
            inputs: checked inputs.
            request: whose they are.
            deadline_s: when its time is over; still to come.
            patience_s: how long its run may take before another version had better answer it; None
                where no other may.

        Returns:
            Its answer, and where the time went.

        Raises:
            Unavailable: the line is full or too long for the time that the request has, or the
                worker that ran it died.
            DeadlineExceeded: its time was over before it had an answer.
            PeltonError: what the model itself wants to tell its caller.
            ModelFailed: the model raised.
        """
        member = self._put(inputs, request, deadline_s, patience_s)
        try:
            answer = await member.done
            return answer, self._timing(member)
        finally:
            if not member.done.done() or member.done.cancelled():
                self._leave(member)
            del member  # an error's traceback holds this frame, and `done` holds the error

    @property
    def running(self) -> int:
        """How many batches are on instances."""
        return len(self._running)

    def close(self) -> None:
        """Ring no more."""
        self._alarm.stop()

    def let_go(self) -> None:
        """Refuse those who wait and whom another version had better answer."""
        for member in list(self.line.in_order()):
            if member.patience_s is not None and self.line.remove(member):
                member.fail(Unavailable(f"model {self._name!r} has a version that does better"))

    def _put(
        self,
        inputs: Mapping[str, Value],
        request: InferRequest,
        deadline_s: float,
        patience_s: float | None,
    ) -> Member:
        self._came += 1
        group = group_of(inputs, self._pad) if self._shares else None
        member = Member(
            rows=1 if group is None else rows_of(inputs),
            bytes=bytes_of(inputs),
            arrived_s=self._clock(),
            group=group,
            priority=request.priority,
            deadline_s=deadline_s,
            inputs=inputs,
            log_id=request.log_id,
            done=asyncio.get_running_loop().create_future(),
            patience_s=patience_s,
        )
        self._alarm.by(deadline_s + TICK_S)
        if not self._start_at_once(member):
            if self._comes_too_late(member):
                self.counts.refused_full += 1
                raise self._too_late(member)
            if not self.line.put(member):
                self.counts.refused_full += 1
                raise self._full()
            self._dispatch()
            if patience_s is not None and self._is_stuck(member.arrived_s):
                self.let_go()
        return member

    def _start_at_once(self, member: Member) -> bool:
        """Start a request that finds nobody waiting and an instance free, if the window agrees."""
        instance = None if len(self.line) else self._free_instance()
        if instance is None or not decide((member,), self._policy, member.arrived_s).take:
            return False
        self._start(instance, [member])
        return True

    def _comes_too_late(self, member: Member) -> bool:
        """Tell whether what waits ahead of a request leaves no time for it."""
        if not len(self.line) or self._free_instance() is not None:
            return False
        left_s = member.deadline_s - member.arrived_s
        return not self._rate.in_time(self.line.rows_ahead(member), left_s, member.arrived_s)

    def _too_late(self, member: Member) -> Unavailable:
        return Unavailable(
            f"{self.line.rows} rows wait for model {self._name!r}, and as fast as it is now the "
            f"request would not be served within the {member.deadline_s - member.arrived_s:.3g} s "
            "that it has left; try again later, or allow it more time",
            self._rate.retry_after_s(self.line.rows),
        )

    def _full(self) -> Unavailable:
        return Unavailable(
            f"{self.line.rows} rows ({self.line.bytes} bytes) wait for model {self._name!r}, "
            "and more would not be served in time; try again later",
            self._rate.retry_after_s(self.line.rows),
        )

    def _leave(self, member: Member) -> None:
        """Take out a request whose caller is gone."""
        self.counts.cancelled += 1
        member.done.cancel()
        if self.line.remove(member):
            self._dispatch()  # it may have been what the others waited behind
        elif member.batch is not None:
            member.batch.one_left()

    def _timing(self, member: Member) -> Timing:
        assert member.batch is not None, "an answer comes from a batch"
        started_s = member.batch.started_s
        waited_s = started_s - member.arrived_s
        beside_free_s = max(0.0, started_s - member.free_since_s)
        return Timing(
            queue_s=waited_s - beside_free_s,
            batch_wait_s=beside_free_s,
            compute_s=self._clock() - started_s,
        )

    def _dispatch(self) -> None:
        """Give the free instances what may run now."""
        if self._dispatching:  # a run that ended at once; the loop below sees its instance
            return
        self._dispatching = True
        try:
            while len(self.line) and (instance := self._free_instance()) is not None:
                if not self._start_next(instance):
                    return
        finally:
            self._dispatching = False
        # Nobody waits beside a free instance any more.
        for member in self._beside_free:
            if member.batch is None:
                member.free_since_s = math.inf
        self._beside_free.clear()

    def _is_stuck(self, now_s: float) -> bool:
        free = not self._running or self._free_instance() is not None
        return not free and all(batch.is_stuck(now_s) for batch in self._running)

    def _free_instance(self) -> Instance | None:
        for instance in reversed(self._free):  # the last one to run has the warmest caches
            if instance.alive:
                return instance
        return None

    def _start_next(self, instance: Instance) -> bool:
        """Start the next batch; return False if that is to wait for more requests."""
        now_s = self._clock()
        self._expire_waiting(now_s)
        load = Load(self.line.rows, self._running_rows)
        decision = decide(self.line.in_order(), self._policy, now_s, load)
        if decision.take:
            members = [member for member in self.line.take(decision.take) if not member.left]
            if members:
                self._start(instance, members)
        elif len(self.line):
            self._wait_beside_free(now_s)
            self._alarm.by(decision.wake_s)
            return False
        return True

    def _start(self, instance: Instance, members: Sequence[Member]) -> None:
        hot_s = self._hot.patience_s()
        batch = Batch(instance, members, self._clock, self._ran, self._padded, hot_s)
        for member in members:
            member.begin(batch)
            if member.is_cut:
                self._alarm.by(member.deadline_s + TICK_S)
        self._free.remove(instance)
        self._running[batch] = None
        self._running_rows += batch.rows
        # Started at once, so that the instance has its work before this request's turn is over.
        task = eager.start(self._carry_out(instance, batch, hot_s))
        if task is not None:
            self._running[batch] = task  # the event loop itself would not keep it alive

    async def _carry_out(self, instance: Instance, batch: Batch, hot_s: float) -> None:
        came = self._came
        await batch.carry_out()
        self._hot.learn(hot_s, batch.model_s, self._came != came)
        del self._running[batch]
        self._running_rows -= batch.rows
        if batch.not_in_rows and self._shares:
            self._share_no_more()
        self._free.append(instance)
        if len(self.line):
            now_s = self._clock()
            self._expire_waiting(now_s, self._rate.least_s(now_s))
        self._dispatch()

    def _share_no_more(self) -> None:
        """From now on each request runs alone, as it would in the end anyway."""
        logger.warning(
            "model %s does not give one row for each row that it takes, so its requests run one "
            "by one from now on; set max_batch_rows = 1 for it",
            self._name,
        )
        self._shares, self._bound = False, None
        self._policy = replace(self._policy, max_rows=1)

    def _wait_beside_free(self, now_s: float) -> None:
        for member in self.line.in_order():
            if member.free_since_s == math.inf:
                member.free_since_s = now_s
                self._beside_free.append(member)

    def _ran(self, rows: int, begun_s: float, ended_s: float) -> None:
        self.counts.runs += 1
        self.counts.rows += rows
        self._longest_s = max(self._longest_s, ended_s - begun_s)
        self._rate.learn(rows, begun_s, ended_s)
        if self._shares and self._policy.instances > 1:
            self._policy = self._sharing.learn(self._policy, rows, begun_s, ended_s)
        if self._bound is not None:
            self._bound.learn(rows, ended_s - begun_s, self.line.rows)
            if self._bound.rows != self._policy.max_rows:
                self._policy = replace(self._policy, max_rows=self._bound.rows)

    def _look(self) -> None:
        """See whose time is over, which run hangs, and who has waited long enough for others."""
        now_s = self._clock()
        grace_s = max(self._hang_grace_s, LONGEST_RUNS * self._longest_s)
        self._expire_waiting(now_s)
        for batch in list(self._running):
            self.counts.expired += batch.check(now_s, grace_s)
        if self._is_stuck(now_s):
            self.let_go()
        self._dispatch()
        next_s = min([batch.next_s(grace_s) for batch in self._running], default=math.inf)
        self._alarm.by(min(next_s, self.line.next_deadline_s) + TICK_S)

    def _expire_waiting(self, now_s: float, least_s: float = 0.0) -> None:
        """Expire who waits and has no time left, or less than would be of any use."""
        for member in self.line.expire(now_s + least_s):
            self.counts.expired += not member.left
            member.expire(now_s)
