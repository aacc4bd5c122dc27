"""What is known of each request when its version is judged, and what is usual for a version."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pelton.errors import Code
from pelton.messages import Value

REMEMBERED = 1000
"""How many of a version's latest requests its baseline is made of."""

SMALL = 4096
"""Elements of an array whose squares are summed in the calling thread."""

LEAST_LATENCIES = 20
"""A 95th percentile is not told from fewer."""

FAILURES = frozenset({Code.MODEL_FAILED, Code.INTERNAL, Code.UNAVAILABLE})
"""Errors that count against a version. What is wrong with the request itself does not, or anybody
who may send requests could have a good version taken back. Expired requests: see `Probation`."""

EXPIRED = Code.DEADLINE_EXCEEDED


@dataclass(frozen=True, slots=True)
class Fact:
    """What one request showed of the version that it was given to.

    Attributes:
        error: why it failed, or None.
        latency_s: how long the version took, without the request's way in and out.
        nonfinite: whether an output held NaN or infinity.
    """

    error: Code | None
    latency_s: float
    nonfinite: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was usual for the version that answered before.

    Attributes:
        requests: how many requests this is known from; 0 where there was no version before.
        failed_share: share of them that failed, from 0 to 1.
        nonfinite: how many outputs of them held NaN or infinity.
        median_s: within which half of them was answered; None where too few were.
        p95_s: within which 95 of 100 were answered; likewise.
        deaths: how often a worker process of it ended by itself, or hung.
        worker_bytes: memory that its worker processes had when the next version came into service.
    """

    requests: int = 0
    failed_share: float = 0.0
    nonfinite: int = 0
    median_s: float | None = None
    p95_s: float | None = None
    deaths: int = 0
    worker_bytes: int = 0


class RecentFacts:
    """Remembers a version's latest requests, so that the next version can be compared to it.

    Costs an append for each request. To be used in one thread.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._facts: deque[Fact] = deque(maxlen=remembered)
        self._deaths: deque[int] = deque(maxlen=remembered)
        self._seen = 0

    def add(self, fact: Fact) -> None:
        """Remember one request, and forget the oldest."""
        self._seen += 1
        self._facts.append(fact)

    def died(self) -> None:
        """Remember for as long that a worker process of the version ended by itself, or hung."""
        self._deaths.append(self._seen)

    def baseline(self) -> Baseline:
        """Return what has been usual.

        Expired requests count as failed here: the next version is allowed as many.
        """
        facts = list(self._facts)
        since = self._seen - len(facts)
        deaths = sum(at >= since for at in self._deaths)
        if not facts:
            return Baseline(deaths=deaths)
        errors = [fact.error for fact in facts if fact.error is not None]
        failed = sum(error in FAILURES or error is EXPIRED for error in errors)
        answered_s = [fact.latency_s for fact in facts if fact.error is None]
        median_s = p95_s = None
        if len(answered_s) >= LEAST_LATENCIES:
            twentieths_s = statistics.quantiles(answered_s, n=20, method="inclusive")
            median_s, p95_s = twentieths_s[9], twentieths_s[18]
        return Baseline(
            requests=len(facts),
            failed_share=failed / len(facts),
            nonfinite=[fact.nonfinite for fact in facts].count(True),
            deaths=deaths,
            median_s=median_s,
            p95_s=p95_s,
        )


def expired(fact: Fact) -> bool:
    """Tell whether a request's time was over before it was answered."""
    return fact.error is EXPIRED


def any_nonfinite(outputs: Mapping[str, Value]) -> bool:
    """Tell whether a float array among the outputs of a request holds NaN or infinity.

    One pass over the arrays, without a copy: a sum is finite only if every element is, and so is
    one of squares. (Opposite infinities make NaN.) One that is not may have overflowed, so that the
    elements are looked at.

    >>> any_nonfinite({"y": np.array([1.0, float("nan")]), "label": np.array([3])})
    True
    """
    return any(
        isinstance(value, np.ndarray) and value.dtype.kind == "f" and _holds_nonfinite(value)
        for value in outputs.values()
    )


def _holds_nonfinite(array: np.ndarray) -> bool:
    # A fifth of the time of all that follows, but for large arrays it would wake other threads.
    if array.size <= SMALL and math.isfinite(np.vdot(array, array)):
        return False
    with np.errstate(all="ignore"):
        total = array.sum(dtype=np.float64 if array.dtype.itemsize > 4 else np.float32)
    return not np.isfinite(total) and not np.isfinite(array).all()
