"""A route: a name that requests ask for, and the policy that says which version answers it.

    Route "digits" -> model "digits"
      |-- Latest()                the version that answers for the model
      |-- Pinned(3)               this one and no other; or Pinned("stable"), whatever is so called
      `-- Split(arms, ...)        each unit gets one of several, always the same
      and beside any of them a Shadow(5, 0.1), which sees copies and never answers

These are records and nothing else. `plain.py` turns them into JSON values and back and is where
they are checked; `way.py` follows them.
"""

from __future__ import annotations

from dataclasses import dataclass

Target = int | str
"""A version by its number, or by a label that the model's owner moves from one to the next."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The version that answers for the model: the one set as active, else the largest."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One version, and no other in its place.

    Attributes:
        version: its number or label.
    """

    version: Target


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the versions among which a split divides.

    Attributes:
        version: its number or label.
        weight: its share, in proportion to the sum of all; at least 0.
    """

    version: Target
    weight: float


@dataclass(frozen=True, slots=True)
class Split:
    """Divides the traffic among versions, each unit always to the same one.

    Attributes:
        arms: the first is the main one: it serves who is not enrolled, and stands in for another
            that is not ready.
        salt: what makes this split's draw independent of all others. While it and the weights
            stay, so does everybody's arm.
        enrolled: the share of units that take part, from 0 to 1; ramped up without anybody
            changing arms.
        sticky: name of a parameter or an input that tells the unit; None for the caller's key.
    """

    arms: tuple[Arm, ...]
    salt: str
    enrolled: float = 1.0
    sticky: str | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies of requests, beside the one that answers.

    Attributes:
        version: its number or label.
        share: which part of the requests is copied, from 0 to 1.
    """

    version: Target
    share: float


Policy = Latest | Pinned | Split


@dataclass(frozen=True, slots=True)
class Route:
    """A name that requests ask for, and who answers.

    Attributes:
        name: the name.
        model: the model whose versions are meant; several routes may lead to one.
        policy: how its version is chosen.
        shadow: what gets copies, if anything does.
    """

    name: str
    model: str
    policy: Policy = Latest()
    shadow: Shadow | None = None

    def targets(self) -> tuple[Target, ...]:
        """Return the versions and labels that this route names, the one that answers first."""
        shadow = () if self.shadow is None else (self.shadow.version,)
        if isinstance(self.policy, Split):
            return (*(arm.version for arm in self.policy.arms), *shadow)
        if isinstance(self.policy, Pinned):
            return (self.policy.version, *shadow)
        return shadow
