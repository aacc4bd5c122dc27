"""Which models to unload so that another one fits into `max_models_bytes`.

What counts as a model's size: what it was measured to take when it was last loaded, where its
loader can say so; before its first time, and where nobody can measure it, the size of its files.

Pure: `residency.py` does what is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pelton.errors import LoadFailed, Unavailable

BUSY_RETRY_S = 1.0
"""When to try again where only requests in flight are in the way."""


class NoRoomYet(Unavailable):
    """There is no room for a model while requests run on others."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that takes memory, or is about to.

    Attributes:
        name: the model's, with the version where several are loaded.
        bytes: its size.
        pinned: whether it is to stay loaded whatever comes.
        busy: whether it is being loaded or unloaded, or somebody has or waits for a request to it.
        last_used: when it was last needed, as a time or any other number that grows.
        held: whether it is busy for longer than a request takes, as in an exchange of versions.
    """

    name: str
    bytes: int
    pinned: bool
    busy: bool
    last_used: float
    held: bool = False


def make_room(
    name: str, needed_bytes: int, residents: Iterable[Resident], max_bytes: int
) -> tuple[str, ...]:
    """Choose which models to unload for another one.

    Models that are neither pinned nor busy go, least recently used first; one that in the end need
    not go, because a larger one has to as well, stays.

    Args:
        name: the model that is to be loaded, for the message.
        needed_bytes: what it takes.
        residents: all others that count into the budget.
        max_bytes: the budget.

    Returns:
        Names of the models to unload, in that order; empty where there is room.

    Raises:
        LoadFailed: there would be no room even with all but the pinned models unloaded.
        NoRoomYet: there would be, but for models on which requests run now.
        Unavailable: there would be, but for models that are held.

    >>> old, new = Resident("old", 40, False, False, 1.0), Resident("new", 40, False, False, 2.0)
    >>> make_room("wanted", 50, [new, old], max_bytes=100)
    ('old',)
    """
    residents = list(residents)
    excess = sum(one.bytes for one in residents) + needed_bytes - max_bytes
    if excess <= 0:
        return ()
    idle = [one for one in residents if not one.pinned and not one.busy]
    if sum(one.bytes for one in idle) < excess:
        raise _no_room(name, needed_bytes, residents, max_bytes)
    idle.sort(key=lambda one: one.last_used)
    return tuple(one.name for one in _fewest(idle, excess))


def _fewest(idle: Sequence[Resident], excess: int) -> list[Resident]:
    """Take from the front until there is enough; then spare those that are not needed for it."""
    chosen: list[Resident] = []
    for one in idle:
        if excess <= 0:
            break
        chosen.append(one)
        excess -= one.bytes
    for one in reversed(chosen.copy()):
        if excess + one.bytes <= 0:
            chosen.remove(one)
            excess += one.bytes
    return chosen


def _no_room(
    name: str, needed_bytes: int, residents: Sequence[Resident], max_bytes: int
) -> LoadFailed | Unavailable:
    pinned_bytes = sum(one.bytes for one in residents if one.pinned)
    needs = f"model {name!r:.80} needs {needed_bytes} bytes of the {max_bytes} that all may take"
    if pinned_bytes + needed_bytes > max_bytes:
        return LoadFailed(
            f"{needs}, and pinned models take {pinned_bytes}; raise max_models_bytes, "
            "or pin fewer models"
        )
    staying_bytes = sum(one.bytes for one in residents if one.pinned or one.held)
    refusal = NoRoomYet if staying_bytes + needed_bytes <= max_bytes else Unavailable
    return refusal(
        f"{needs}, and those that are loaded are busy; try again later, or raise max_models_bytes",
        BUSY_RETRY_S,
    )
