"""Many who need the same thing loaded cause one load, and all of them are told how it ended."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pelton.errors import PeltonError, Unavailable

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0

T = TypeVar("T")


@dataclass(slots=True)
class _Failure:
    """How a load failed, and when it may be tried again.

    Attributes:
        error: what was raised.
        delay_s: how long after the failure there is no other try.
        until_s: when there is one, on the event loop's clock.
    """

    error: PeltonError
    delay_s: float
    until_s: float


class LoadingOnce(Generic[T]):
    """Loads by name, each name once at a time.

    * Who comes while a load is under way waits for that one, and gets what it gives or raises.
    * Who leaves does not end the load: others may wait for it, or come and need it.
    * After a failed load nobody causes another one before a delay is over, which doubles with
      each failure from `FIRST_DELAY_S` to `LONGEST_DELAY_S`; so a broken model that everybody asks
      for does not keep the machine busy. A load that was refused with `Unavailable`, because there
      was no room, say, was none, and causes no delay.

    To be used on one event loop.
    """

    def __init__(self, load: Callable[[str], Awaitable[T]]) -> None:
        """Make one that has loaded nothing yet.

        Args:
            load: loads what has that name; ends by itself, or when it is cancelled.
        """
        self._load = load
        self._flights: dict[str, asyncio.Task[T]] = {}
        self._failures: dict[str, _Failure] = {}

    def is_loading(self, name: str) -> bool:
        """Tell whether a load is under way."""
        return name in self._flights

    async def get(self, name: str) -> T:
        """Load, or wait for the load that is under way.

        Returns:
            What was loaded.

        Raises:
            Unavailable: the last load failed a short time ago; says when to try again.
            PeltonError: this load failed.
        """
        flight = self._flights.get(name)
        if flight is None:
            self._refuse_if_too_soon(name)
            flight = asyncio.get_running_loop().create_task(self._fly(name))
            self._flights[name] = flight
            flight.add_done_callback(functools.partial(self._landed, name))
        await asyncio.wait({flight})  # which leaves the flight alone when the waiter is cancelled
        if flight.cancelled():
            raise Unavailable(f"loading of {name!r:.80} was given up")
        return flight.result()

    def forgive(self, name: str) -> None:
        """Allow another try at once, since something was done about a failure."""
        self._failures.pop(name, None)

    async def close(self) -> None:
        """Give up the loads that are under way, and wait until they have ended."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)

    async def _fly(self, name: str) -> T:
        try:
            loaded = await self._load(name)
        except Unavailable:
            raise
        except PeltonError as error:
            self._note(name, error)
            raise
        self._failures.pop(name, None)
        return loaded

    def _landed(self, name: str, flight: asyncio.Task[T]) -> None:
        del self._flights[name]
        if not flight.cancelled():
            flight.exception()  # looked at here, since everybody who waited may have left

    def _note(self, name: str, error: PeltonError) -> None:
        before = self._failures.get(name)
        delay_s = FIRST_DELAY_S if before is None else min(2 * before.delay_s, LONGEST_DELAY_S)
        now_s = asyncio.get_running_loop().time()
        self._failures[name] = _Failure(error, delay_s, now_s + delay_s)

    def _refuse_if_too_soon(self, name: str) -> None:
        failure = self._failures.get(name)
        if failure is None:
            return
        left_s = failure.until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            raise Unavailable(
                f"{name!r:.100} could not be loaded a moment ago; it is tried again later", left_s
            ) from failure.error
