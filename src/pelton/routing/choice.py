"""What was chosen for one request."""

from __future__ import annotations

from typing import NamedTuple


class Choice(NamedTuple):
    """Which version of which model answers a request, and why that one.

    A tuple, since one is made for each request of a split.

    Attributes:
        route: the name that was asked for.
        model: the model that answers.
        version: its version that answers.
        arm: what was assigned, as text: a version, or a label that points nowhere. It differs
            from `version` where that was not ready and the main arm stands in. Whoever compares
            versions goes by it: a version that fails must not lose those whom it failed.
        probability: with which the arm was assigned, among the units enrolled; 1 where nothing
            was left to chance.
        enrolled: whether the unit takes part in a split.
        forced: whether the caller named the version.
        unit: whom the split assigned; empty where there is no split, or nobody to tell.
        by_key: whether the unit is a caller's key rather than the id of the request.
        shadow: the version that gets a copy, or None.
        salt: of the split; a new one is a new experiment, in which every unit is new.
    """

    route: str
    model: str
    version: int
    arm: str
    probability: float = 1.0
    enrolled: bool = False
    forced: bool = False
    unit: str = ""
    by_key: bool = False
    shadow: int | None = None
    salt: str = ""


HEADER = "x-pelton-choice"
"""The header in which an answer tells what a split has chosen, in lower case."""


def told(choice: Choice) -> str | None:
    """Return the header's value; None where the version, which every answer names, says it all.

    Names of routes, versions and labels are harmless in a header. The unit is left out: it is
    the caller's own, and may be the name of a person.

    >>> told(Choice("digits", "digits", 3, "4", 0.05, True, unit="robot-7", by_key=True))
    'route=digits, version=3, arm=4, probability=0.05, enrolled=yes, forced=no, unit=key'
    >>> told(Choice("digits", "digits", 3, "3")) is None
    True
    """
    if not choice.unit:
        return None
    return (
        f"route={choice.route}, version={choice.version}, arm={choice.arm}, "
        f"probability={choice.probability}, enrolled={'yes' if choice.enrolled else 'no'}, "
        f"forced={'yes' if choice.forced else 'no'}, unit={'key' if choice.by_key else 'request'}"
    )
