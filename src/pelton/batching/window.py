"""Decides which of the waiting requests an instance that is free runs next, and when.

A pure function of what waits, of the policy and of the time: no clock, no await, no state. To
change how batches form, change this file; to tune it while serving, hand it another policy.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Waiting(Protocol):
    """What the window sees of a request.

    Attributes:
        rows: how many rows it brings, along the first axis of its inputs.
        group: equal for requests that may share a run: names, dtypes, and shapes beyond the
            first axis; None for one that must run alone.
        free_since_s: since when it has waited although an instance was free, or infinity where
            none was: only this waiting counts against `max_delay_s`.
    """

    rows: int
    group: Hashable
    free_since_s: float


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How batches form.

    Attributes:
        max_rows: most rows of a batch; a single request with more runs alone.
        max_delay_s: how long a request may wait for others beside a free instance.
        preferred_rows: ascending sizes at which a batch is good enough to go.
    """

    max_rows: int = 1
    max_delay_s: float = 0.0
    preferred_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a free instance.

    Attributes:
        take: positions of the requests to run together, ascending; empty to wait.
        wake_s: if nothing is taken, when to ask again at the latest; infinity for not before
            something changes.
    """

    take: tuple[int, ...]
    wake_s: float


def decide(waiting: Sequence[Waiting], policy: WindowPolicy, now_s: float) -> Decision:
    """Choose the next batch for one free instance.

    Args:
        waiting: in the order in which they are to be served.
        policy: how batches form.
        now_s: the time.
    """
    raise AssertionError("to be written")
