"""Decides which of the waiting requests an instance that is free runs next, and when.

A pure function of what waits, of the policy and of the time: no clock, no await, no state. To
change how batches form, change this file; to tune it while serving, hand it another policy. Who
calls it takes the requests out of the line, stacks them and runs them, whatever is chosen here.

Any rule will do that keeps the following; the tests of this file say so too:

* Either something is taken, or `wake_s` says when to ask again. With nothing waiting, or nothing
  to wait for, an infinite `wake_s` means: not before a request comes or an instance gets free.
* Requests in one `take` are of the same `group`, and one of group None is alone.
* The first in line is served first, or waited for: this is what keeps everybody from starving.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Waiting(Protocol):
    """What the window sees of a request.

    Attributes:
        rows: how many rows it brings, along the first axis of its inputs; at least 1.
        group: equal for requests that may share a run: names, dtypes, and shapes beyond the
            first axis; None for one that must run alone.
        free_since_s: since when it has waited although an instance was free, or infinity where
            none was: only this waiting counts against `max_delay_s`.
    """

    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def group(self) -> Hashable: ...  # noqa: D102
    @property
    def free_since_s(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How batches form.

    Attributes:
        max_rows: most rows of a batch; a single request with more runs alone.
        max_delay_s: how long a request may wait for others beside a free instance; 0 never
            waits on purpose.
        preferred_rows: ascending sizes at which a batch does not wait any longer; without a
            `max_delay_s` they change nothing.
        instances: how many instances share the work. One that is free takes its share of what
            waits and no more: the others will be free soon, and to run on all of them is over
            earlier than to run on one.
        spared_rows: so many of the rows that wait do not count for that share: for a model that
            runs two rows hardly quicker together than one after the other, so that the first of
            them would wait for the second's sake.
        saturated: whether no instance is ever idle: then the share is one of the rows that run
            as well, and none is spared.
    """

    max_rows: int = 1
    max_delay_s: float = 0.0
    preferred_rows: tuple[int, ...] = ()
    instances: int = 1
    spared_rows: int = 0
    saturated: bool = False


class Load(NamedTuple):
    """How much there is to do.

    Attributes:
        waiting: rows of all requests that wait.
        running: rows of all batches that run.
    """

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a free instance.

    Attributes:
        take: positions of the requests to run together, ascending; empty to wait.
        wake_s: if nothing is taken, when to ask again at the latest; infinity for not before
            something changes.
    """

    take: tuple[int, ...]
    wake_s: float = math.inf


_NOTHING = Decision(())
_FIRST = Decision((0,))


def decide(
    waiting: Sequence[Waiting], policy: WindowPolicy, now_s: float, load: Load | None = None
) -> Decision:
    """Choose the next batch for one free instance.

    The first in line is always in the batch. Later ones of its group join in order, up to the
    first that does not fit any more: none is overtaken by a smaller one of its group, so that
    big requests do not starve. Other groups are passed over; the next free instance finds them
    in front. The batch goes at once, unless the policy has a `max_delay_s`; then it may wait
    until it is full, that is, has `max_rows`, or the next of its group does not fit.

    Args:
        waiting: in the order in which they are to be served.
        policy: how batches form.
        now_s: the time, on the clock of `free_since_s`.
        load: of which an instance takes its share where there are several; None leaves that out.

    Returns:
        What to run, or when to ask again. The work is proportional to how many stand in front of
        the last one taken.

    >>> from pelton.batching.line import Entry
    >>> line = [
    ...     Entry(rows=rows, group=shape, bytes=0, arrived_s=0.0)
    ...     for rows, shape in [(2, "a"), (1, "b"), (1, "a"), (2, "a"), (1, "a")]
    ... ]
    >>> decide(line, WindowPolicy(max_rows=4), now_s=7.0)
    Decision(take=(0, 2), wake_s=inf)
    >>> decide(line, WindowPolicy(4, instances=3, spared_rows=3), 7.0, Load(waiting=7, running=8))
    Decision(take=(0,), wake_s=inf)
    >>> decide(line, WindowPolicy(8, instances=3, saturated=True), 7.0, Load(waiting=7, running=8))
    Decision(take=(0, 2, 3), wake_s=inf)
    >>> decide(line, WindowPolicy(max_rows=8, max_delay_s=0.5), now_s=7.0)
    Decision(take=(), wake_s=7.5)
    >>> decide(line, WindowPolicy(max_rows=8, max_delay_s=0.5, preferred_rows=(2, 5)), now_s=7.0)
    Decision(take=(0, 2, 3), wake_s=inf)
    """
    if not waiting:
        return _NOTHING
    first = waiting[0]
    if first.group is None or first.rows >= policy.max_rows:
        return _FIRST
    if policy.max_delay_s <= 0.0:
        return Decision(_gather(waiting, _share(first.rows, policy, load))[0])
    take, full = _gather(waiting, policy.max_rows)
    if full:
        return Decision(take)
    return _go_or_wait([waiting[position] for position in take], take, policy, now_s)


def _share(first_rows: int, policy: WindowPolicy, load: Load | None) -> int:
    """Return the most rows that one of several instances takes of those that wait."""
    if load is None:
        return policy.max_rows
    rows = load.waiting + (load.running if policy.saturated else -policy.spared_rows)
    share = -(-rows // policy.instances)
    return min(policy.max_rows, max(first_rows, share))


def _gather(waiting: Sequence[Waiting], max_rows: int) -> tuple[tuple[int, ...], bool]:
    """Collect who may run with the first, and say whether nobody could join them any more."""
    group = waiting[0].group
    rows = 0
    take: list[int] = []
    for position, entry in enumerate(waiting):
        if entry.group != group:
            continue
        rows += entry.rows
        if rows > max_rows:
            return tuple(take), True
        take.append(position)
        if rows == max_rows:
            return tuple(take), True
    return tuple(take), False


def _go_or_wait(
    batch: Sequence[Waiting], take: tuple[int, ...], policy: WindowPolicy, now_s: float
) -> Decision:
    """Decide whether a batch that is not full goes all the same.

    It does so where its first so many requests have exactly a preferred number of rows: the
    largest such number counts, and those behind it stay. A batch that has outgrown the last
    preferred size without ever meeting one goes as it is. So does one of which a request has
    waited for `max_delay_s` beside a free instance; one whose `free_since_s` has not been set
    counts as waiting from now on.
    """
    good = _preferred([entry.rows for entry in batch], policy.preferred_rows)
    if good:
        return Decision(take[:good])
    oldest_s = min([entry.free_since_s for entry in batch])
    wake_s = min(oldest_s, now_s) + policy.max_delay_s
    return Decision(take) if wake_s <= now_s else Decision((), wake_s)


def _preferred(counts: Sequence[int], preferred_rows: tuple[int, ...]) -> int:
    """Return how many of a batch, from the first on, are good enough to go; 0 for none.

    >>> _preferred([1, 1, 1, 1, 1], (2, 4)), _preferred([3], (2, 4)), _preferred([3, 3], (2, 4))
    (4, 0, 2)
    """
    rows = good = 0
    for position, count in enumerate(counts, 1):
        rows += count
        if rows in preferred_rows:
            good = position
    if not good and preferred_rows and rows > preferred_rows[-1]:
        return len(counts)
    return good
