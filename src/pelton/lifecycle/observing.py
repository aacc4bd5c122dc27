"""What requests show of the versions of one model, for whoever judges them and the next one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pelton.clock import Clock
from pelton.engine.model import Watch
from pelton.errors import Code
from pelton.lifecycle.facts import Fact, any_nonfinite
from pelton.lifecycle.recording import MAX_BYTES, MAX_REQUESTS, ONE_IN, Recording
from pelton.lifecycle.version import Version
from pelton.messages import InferRequest, Timing, Value
from pelton.specs import Golden

LOOK_ONE_IN = 16
"""Of so many answers one is looked at for NaN and infinity while nobody is on probation, to know
whether they are usual."""


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """Which requests are kept as golden requests for the next version, and what they ask of it.

    Attributes:
        requests: how many of each model; 0 for none.
        bytes: what they may take together.
        one_in: one of how many requests is taken.
        agreement: least share of rows in which the new version must agree with the running one;
            0 does not ask.
        latency_factor: how many times as long as the running one it may take; 0 does not ask.
    """

    requests: int = MAX_REQUESTS
    bytes: int = MAX_BYTES
    one_in: int = ONE_IN
    agreement: float = 0.0
    latency_factor: float = 2.0


class Observing:
    """Remembers what was usual for each version, and keeps a few requests."""

    def __init__(
        self,
        plan: RecordingPlan,
        see: Callable[[Version, Fact], bool],
        minds_nonfinite: Callable[[Version], bool],
        clock: Clock = time.monotonic,
    ) -> None:
        """Begin with nothing.

        Args:
            plan: what is recorded.
            clock: the server's, on which requests are given to versions.
            see: told of each request to a version; returns whether the version has yet to prove
                itself.
            minds_nonfinite: tells of such a version whether NaN and infinity are unusual.
        """
        self._plan = plan
        self._see = see
        self._minds_nonfinite = minds_nonfinite
        self._clock = clock
        self._recording: Recording | None = None
        if plan.requests:
            chance = random.Random()  # noqa: S311 - a sample, not a secret
            self._recording = Recording(chance, plan.requests, plan.bytes, plan.one_in)

    def watch_of(self, version: Version) -> Watch:
        """Return what is to be told of each request that a version was given."""
        turns, exactly = 0, True

        def watch(
            request: InferRequest,
            error: Code | None,
            timing: Timing | None,
            outputs: Mapping[str, Value] | None,
        ) -> bool:
            nonlocal turns, exactly
            turns += 1
            nonfinite = False
            if outputs is not None and (exactly or turns % LOOK_ONE_IN == 0):
                nonfinite = any_nonfinite(outputs)
            fact = Fact(error, _took_s(request, timing, self._clock), nonfinite)
            version.recent.add(fact)
            exactly = self._see(version, fact)
            if error is None and self._recording is not None and _is_repeatable(version):
                self._recording.put(request.inputs)
            return nonfinite and exactly and self._minds_nonfinite(version)

        return watch

    def goldens(self) -> tuple[Golden, ...]:
        """Return the requests that were kept, as golden requests."""
        if self._recording is None:
            return ()
        plan = self._plan
        return self._recording.goldens(0.0, 0.0, plan.agreement, plan.latency_factor)


def _took_s(request: InferRequest, timing: Timing | None, clock: Clock) -> float:
    """Return how long a version ran, or how much time it had where it gave no answer."""
    if timing is not None:
        return timing.compute_s
    # What it was not even given does not count against it.
    return max(0.0, clock() - request.given_s) if request.given_s else 0.0


def _is_repeatable(version: Version) -> bool:
    """Tell whether asking a version once more harms nobody: one in Python may remember it."""
    return version.model is not None and not version.model.metadata.takes_objects


def now_s() -> float:
    """Return the time of the event loop, on which probations are."""
    return asyncio.get_running_loop().time()
