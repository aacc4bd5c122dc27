"""Changes the version that answers for one model, and changes it back.

    publish:   load -> warm -> golden -> commit -> switch
                 |       |       |         |
                 +-------+-------+---------+--> the candidate is closed, nothing has changed

    after it:  on probation --passed--> kept warm --keep_warm_s over--> drained, closed
                    |                      |                            (the version before)
                    +---- taken back ------+
                    |     rolled back      |
                    v                      v
               the version before answers again; the other one is drained and closed

Rules:

1. One publish of a model after the other; each waits for the one before to have switched, or to
   have been refused.
2. Until the commit has begun, cancelling a publish closes the candidate and changes nothing. From
   then on the publish goes through, even if nobody waits for it: what is on record is what answers.
3. The version before is kept, loaded and warm, until the probation has passed and `keep_warm_s`
   are over. To go back is to set one reference; nothing is loaded, and nothing is waited for, not
   even the record. A server that is killed before that is written begins with the version that was
   taken back, whole; a probation does not outlive its server.
4. A publish during a probation does not wait for its end. When it switches, the version on
   probation is closed and the one before that is kept: nobody goes back to what was not proven.
5. If the version that answers changes while a candidate is being judged, it is judged again, by the
   one that answers now.
6. There is one step back. A second rollback is refused; so an order that is given twice cannot
   bring the bad version back. Nor does the version stay that one goes back from by an order.
7. A version is closed once, after the requests that it has taken have been answered, or
   `drain_timeout_s` is over.
8. While a commit is under way nothing else changes what answers: a rollback waits for it, and a
   probation that goes wrong meanwhile is of no matter, as its version is about to be replaced.

Everything happens on one event loop, whose clock all times are on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pelton.errors import Conflict, Unavailable
from pelton.lifecycle.facts import Fact
from pelton.lifecycle.gates import Gate, Refused, at_gate
from pelton.lifecycle.probation import Continue, Probation, TakeBack
from pelton.lifecycle.swap_steps import Numbers, Order, Steps, SwapTimes, Switched

logger = logging.getLogger("pelton.lifecycle")

CLOSE_PATIENCE_S = 10.0
"""How long a publish that was refused waits for its candidate's memory before it says so."""

WEIGH_S = 1.0
"""How often the memory of a version on probation is looked at."""

S = TypeVar("S")
T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    """The version to go back to.

    Attributes:
        until_s: when it need not be kept any more.
    """

    version: V
    until_s: float


class ModelSwap(Generic[S, V]):
    """The versions of one model: which one answers, and which one is kept to go back to.

    Attributes:
        served: the version that answers; None before the first.
    """

    def __init__(self, name: str, steps: Steps[S, V], times: SwapTimes, served: V | None) -> None:
        """Begin with what is served.

        Args:
            name: the model's name, for messages.
            steps: what is done at each step.
            times: how long it may take.
            served: the version that answers already; None where none does.
        """
        self.served = served
        self._name = name
        self._steps = steps
        self._times = times
        self._kept: _Kept[V] | None = None
        self._unproven: set[V] = set()  # those that leave before their probation was passed
        self._probation: Probation | None = None
        self._one_by_one = asyncio.Lock()
        self._publishes: set[asyncio.Task[V]] = set()
        self._committing: asyncio.Task[V] | None = None
        self._committed = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def kept(self) -> V | None:
        """The version that a rollback would go back to; None where there is none."""
        return None if self._kept is None else self._kept.version

    @property
    def on_probation(self) -> bool:
        """Whether the version that answers may still be taken back by itself."""
        return self._probation is not None

    def stand_in(self, version: V) -> V | None:
        """Return who may answer what this version fails; None where nobody may.

        That is the one that was proven last, for a version on probation, and for one that did not
        pass it: what such a one was given while it answered may fail later.
        """
        proven = self.served if self._probation is None else self.kept
        on_trial = version is self.served or version in self._unproven
        return proven if on_trial and version is not proven else None

    # -- orders -----------------------------------------------------------------------------------

    async def publish(self, order: Order[S]) -> V:
        """Have a new version answer, if it passes every gate.

        Returns:
            The version, which answers now.

        Raises:
            Refused: a gate refused it, or it took longer than it may there; nothing has changed.
            Unavailable: the server is shutting down; likewise.
            CancelledError: the caller was cancelled; nothing has changed, unless the commit had
                begun, which then goes through.
        """
        if self._closed:
            raise self._shutting_down()
        task = asyncio.get_running_loop().create_task(self._carry_out(order))
        self._publishes.add(task)
        task.add_done_callback(self._published)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            self._give_up(task)
            raise
        if task.cancelled():
            raise self._shutting_down()
        return task.result()

    async def rollback(self, actor: str = "") -> V:
        """Have the version before answer again.

        Returns:
            That version, which answers now.

        Raises:
            Conflict: none is kept.
        """
        while self._committing is not None:
            await self._committed.wait()
        numbers = {} if self._probation is None else self._probation.numbers()
        return self._go_back("rollback", numbers, actor)

    def see(self, version: V, fact: Fact) -> None:
        """Take in what a request showed of the version that it was given to.

        To be called for every request, at its end; costs nothing while there is no probation.
        """
        if self._probation is None or version is not self.served:
            return
        now_s = asyncio.get_running_loop().time()
        if not isinstance(self._probation.see(fact, now_s), Continue):
            self._look()

    def died(self, version: V) -> None:
        """Take in that a worker process of a version has ended by itself, or hung."""
        if self._probation is None or version is not self.served:
            return
        if not isinstance(self._probation.died(asyncio.get_running_loop().time()), Continue):
            self._look()

    def let_kept_go(self) -> asyncio.Task[None] | None:
        """Close the version that is kept before its time is over, for others need its memory.

        Returns:
            What closes it; None where none is kept, or where it may be needed at any moment, as
            during a probation.
        """
        if self._kept is None or self._probation is not None or self._committing is not None:
            return None
        version, self._kept = self._kept.version, None
        return self._leave(version)

    async def close(self) -> None:
        """Give up what is being published, and close the version that is kept.

        The version that answers is left to whoever serves it.
        """
        self._closed = True
        publishes = self._publishes.copy()
        for task in publishes:
            self._give_up(task)
        if publishes:
            await asyncio.wait(publishes)
        if self._timer is not None:
            self._timer.cancel()
        self._probation = None
        self._keep(None)
        if self._leaving:
            await asyncio.wait(self._leaving)

    # -- one publish ------------------------------------------------------------------------------

    async def _carry_out(self, order: Order[S]) -> V:
        async with self._one_by_one:
            order.progress(Gate.LOAD)
            loading = self._steps.load(order.source)
            candidate = await passed(Gate.LOAD, self._times.load_timeout_s, loading)
            try:
                numbers = await self._prove(order, candidate)
                order.progress(Gate.SWAP)
                switched = Switched(self.served, candidate, order.cause, numbers, order.actor)
                await self._commit(switched, keep_before=not order.proven)
            except BaseException:
                if candidate is not self.served:
                    closing = self._leave(candidate, drain=False)
                    await asyncio.wait({closing}, timeout=CLOSE_PATIENCE_S)
                raise
            return candidate

    async def _prove(self, order: Order[S], candidate: V) -> Numbers:
        """Warm a candidate, and have it judged by the version that answers when that is over."""
        order.progress(Gate.WARM)
        await passed(Gate.WARM, self._times.warm_timeout_s, self._steps.warm(candidate))
        if order.proven:
            return {}
        order.progress(Gate.GOLDEN)
        while True:
            running = self.served
            judging = self._steps.judge(candidate, running)
            numbers = await passed(Gate.GOLDEN, self._times.golden_timeout_s, judging)
            if running is self.served:
                return numbers

    async def _commit(self, switched: Switched[V], keep_before: bool) -> None:
        self._committing = asyncio.current_task()
        self._committed.clear()
        try:
            with at_gate(Gate.SWAP):
                await self._steps.commit(switched)
            self._switch(switched.after, keep_before)
        finally:
            self._committing = None
            self._committed.set()
            self._look()

    def _switch(self, candidate: V, keep_before: bool) -> None:
        self._steps.switch(candidate)
        before, self.served = self.served, candidate
        if before is None:
            return
        if not keep_before:
            self._probation = None
            self._keep(None)
            self._leave(before)
            return
        proven = before
        if self._probation is not None and self._kept is not None:
            proven = self._kept.version
            self._unproven.add(before)
            self._leave(before)
        self._keep(proven)
        self._probation = self._steps.probation(proven)

    # -- what comes after -------------------------------------------------------------------------

    def _go_back(self, cause: str, numbers: Numbers, actor: str) -> V:
        if self._kept is None or self.served is None:
            raise Conflict(
                f"no version of model {self._name!r:.80} is kept to go back to; "
                "load or publish the one that is to answer"
            )
        before, after = self.served, self._kept.version
        self._steps.switch(after)
        self.served, self._kept, self._probation = after, None, None
        self._unproven.add(before)
        self._leave(before)
        logger.warning(
            "model %s: the version before answers again (%s)%s",
            self._name,
            cause,
            "".join(f"; {name} {_short(value)}" for name, value in numbers.items()),
        )
        self._steps.switched_back(Switched(before, after, cause, numbers, actor))
        return after

    def _look(self) -> None:
        """See whether a probation is over, and whether the version before is still to be kept."""
        if self._timer is not None:
            self._timer.cancel()
        if self._committing is not None:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._probation is not None:
            assert self.served is not None
            decision = self._probation.weigh(self._steps.worker_bytes(self.served), now_s)
            if isinstance(decision, TakeBack):
                self._go_back("probation", {**decision.numbers, "reason": decision.reason}, "")
            elif not isinstance(decision, Continue):
                self._probation = None
        if self._probation is not None:
            self._timer = loop.call_at(min(self._probation.ends_s, now_s + WEIGH_S), self._look)
        elif self._kept is not None and now_s < self._kept.until_s:
            self._timer = loop.call_at(self._kept.until_s, self._look)
        else:
            self._keep(None)

    def _keep(self, version: V | None) -> None:
        """Keep this version to go back to, and no other."""
        before, self._kept = self._kept, None
        if before is not None and before.version is not version:
            self._leave(before.version)
        if version is not None:
            until_s = asyncio.get_running_loop().time() + self._times.keep_warm_s
            self._kept = _Kept(version, until_s)

    def _leave(self, version: V, drain: bool = True) -> asyncio.Task[None]:
        """Close a version that answers no more, as soon as it has answered what it has taken."""
        task = asyncio.get_running_loop().create_task(self._retire(version, drain))
        self._leaving.add(task)
        task.add_done_callback(self._left)
        return task

    async def _retire(self, version: V, drain: bool) -> None:
        try:
            if drain:
                async with asyncio.timeout(self._times.drain_timeout_s):
                    await self._steps.drain(version)
        except TimeoutError:
            logger.warning("an old version of model %s is closed while it runs", self._name)
        finally:
            self._unproven.discard(version)
            await self._steps.close(version)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "a version of model %s was not closed in order", self._name, exc_info=error
            )

    def _published(self, task: asyncio.Task[V]) -> None:
        self._publishes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("model %s: no new version: %s", self._name, error)

    def _give_up(self, task: asyncio.Task[V]) -> None:
        if task is not self._committing:
            task.cancel()

    def _shutting_down(self) -> Unavailable:
        return Unavailable("the server is shutting down; nothing was published")


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


async def passed(gate: Gate, timeout_s: float, step: Awaitable[T]) -> T:
    """Wait for a step, but not for ever.

    Raises:
        Refused: what went wrong in it was a `PeltonError`, or it was not done in time.
    """
    try:
        async with asyncio.timeout(timeout_s) as limit:
            with at_gate(gate):
                return await step
    except TimeoutError:
        if limit.expired():
            raise Refused(gate, f"it was not done within {timeout_s:g} s") from None
        raise
