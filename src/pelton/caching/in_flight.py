"""Identical questions that are under way at once are computed once.

The first to ask leads: it computes, right in its own coroutine, so a question that nobody shares
costs no task. Whoever asks the same meanwhile waits for the leader's result.

* A result is shared by all who wait.
* A failure of Pelton's own kind is told to all who wait, each with an error of its own, and is
  forgotten: who asks after it computes again. So a request that kills its worker kills one.
* What concerns the leader alone is not told: its deadline is over, or its caller has left. Then
  one of those who wait leads in its stead and computes anew, with its own deadline; the others
  wait for that one.
* Whoever waits does so until its own deadline, and leaves alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from pelton.clock import Clock
from pelton.errors import DeadlineExceeded, PeltonError

T = TypeVar("T")


class _Outcome(NamedTuple, Generic[T]):
    """What became of a computation: a result, an error, or neither, where it concerns only one."""

    result: T | None
    error: PeltonError | None


class Leading(Generic[T]):
    """A computation that others may wait for; at its end they are told what became of it.

    Attributes:
        result: what came out; None until then.
    """

    __slots__ = ("_all", "_key", "_waiting", "result")

    def __init__(
        self,
        everywhere: dict[bytes, list[asyncio.Future[_Outcome[T]]]],
        key: bytes,
        waiting: list[asyncio.Future[_Outcome[T]]],
    ) -> None:
        self.result: T | None = None
        self._all, self._key, self._waiting = everywhere, key, waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._all[self._key]
        waiting, self._waiting = self._waiting, []  # else an error would hold itself, by its frame
        if not waiting:
            return
        told = None
        if isinstance(error, PeltonError) and not isinstance(error, DeadlineExceeded):
            told = error
        _tell(waiting, _Outcome(self.result if error is None else None, told))


class InFlight(Generic[T]):
    """Who computes what, and who waits for it.

    Attributes:
        led: key of what is being computed -> who waits for it; to be read only.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.led: dict[bytes, list[asyncio.Future[_Outcome[T]]]] = {}

    def __len__(self) -> int:
        return len(self.led)

    async def share(
        self, key: bytes, deadline_s: float, compute: Callable[[], Awaitable[T]]
    ) -> tuple[T, bool]:
        """Return the result of a computation, or of the same one that is under way.

        Args:
            key: equal for equal computations.
            deadline_s: when waiting for another one's is over, on the clock; `compute` holds its
                own.
            compute: called, and awaited, if this is the first.

        Returns:
            The result, and whether another one computed it.

        Raises:
            DeadlineExceeded: another one computes it, and the time was over before it was done.
            PeltonError: as `compute` raised it, here or where it was computed.
        """
        while (waiting := self.led.get(key)) is not None:
            outcome = await self._wait(waiting, deadline_s)
            if outcome.error is not None:
                raise _one_more(outcome.error) from outcome.error.__cause__
            if outcome.result is not None:
                return outcome.result, True
        with self.leading(key) as leading:
            result = leading.result = await compute()
        return result, False

    def leading(self, key: bytes) -> Leading[T]:
        """Lead, as a context in which the result is to be set; nobody else may do so now."""
        waiting = self.led[key] = []
        return Leading(self.led, key, waiting)

    def anyone_waits(self, key: bytes) -> bool:
        """Tell whether somebody waits for a computation that is under way."""
        return bool(self.led.get(key))

    async def _wait(
        self, waiting: list[asyncio.Future[_Outcome[T]]], deadline_s: float
    ) -> _Outcome[T]:
        # Not `asyncio.timeout`: requests are begun outside of any task, which that needs.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Outcome[T]] = loop.create_future()
        waiting.append(waiter)
        timer = None
        if deadline_s != math.inf:
            timer = loop.call_later(max(0.0, deadline_s - self._clock()), _expire, waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter.cancelled():
                waiting.remove(waiter)


def _tell(waiting: list[asyncio.Future[_Outcome[T]]], outcome: _Outcome[T]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(outcome)


def _expire(waiter: asyncio.Future[_Outcome[T]]) -> None:
    if not waiter.done():
        late = DeadlineExceeded(
            "the time that was allowed for the request is over; it waited for the answer to "
            "another one with the same content"
        )
        waiter.set_result(_Outcome(None, late))


def _one_more(error: PeltonError) -> PeltonError:
    """Return an error like this one; raised twice, one error would gather both tracebacks."""
    kind = type(error)
    copy = kind.__new__(kind, *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
