"""Choices as exposure records, for whoever compares the versions later.

Every choice of a split is one, also of units that are not enrolled or of callers who named the
version: they are told apart by their fields, and left out where they do not count. The same unit
comes again and again, and only its first exposure counts. The store makes sure of that by its
key; the memo here spares it most of the writes.
"""

from __future__ import annotations

from pelton.records import Exposure
from pelton.routing.choice import Choice

MAX_UNITS = 1 << 16
"""So many units at the least are remembered, and at the most twice as many."""

_Mark = tuple[str, str, str, str, bool, bool]


def exposure_of(choice: Choice, at_s: float) -> Exposure | None:
    """Return what is kept of a choice; None where nobody was assigned.

    Args:
        choice: what was chosen for a request.
        at_s: when, in seconds since 1970.
    """
    if not choice.unit:
        return None
    return Exposure(
        choice.route,
        choice.unit,
        choice.by_key,
        choice.arm,
        choice.probability,
        choice.enrolled,
        choice.forced,
        at_s,
        choice.salt,
    )


class FirstExposures:
    """Passes on what has not been seen lately, with a bounded memory.

    A unit is passed on again when it is given another arm, when it becomes enrolled, and when the
    split has a new salt, with which another experiment begins. Units
    that are request ids do not come again, so they are not remembered. What was forgotten, or was
    before a restart, is passed on twice.

    Two sets stand for the memory: when the young one is full it becomes the old one, and what is
    only in the older one before it is forgotten. What comes again moves to the young one.
    """

    def __init__(self, max_units: int = MAX_UNITS) -> None:
        """Start without a memory.

        Args:
            max_units: how many units each of the two sets holds.
        """
        self._max_units = max_units
        self._young: set[_Mark] = set()
        self._old: set[_Mark] = set()

    def first(self, choice: Choice, at_s: float) -> Exposure | None:
        """Return the exposure of a choice; None where there is none, or it was passed on before.

        Args:
            choice: what was chosen for a request.
            at_s: when, in seconds since 1970.
        """
        if choice.by_key and self._seen(choice):
            return None
        return exposure_of(choice, at_s)

    def _seen(self, choice: Choice) -> bool:
        told = (choice.route, choice.salt, choice.unit, choice.arm)
        mark = (*told, choice.enrolled, choice.forced)
        if mark in self._young:
            return True
        seen = mark in self._old
        if len(self._young) >= self._max_units:
            self._old, self._young = self._young, set()
        self._young.add(mark)
        return seen
