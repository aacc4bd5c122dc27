"""Who takes part in a split, and who gets which arm: a hash of the unit, and nothing remembered.

    u = blake2b(salt || ":" || unit, 8 bytes, big-endian) / 2^64        uniform in [0, 1)

A split draws twice, with two salts, so that the two are independent:

    enrolled  <=>  u(salt.enrolled) < c         c is ramped up, 0.02 -> 0.1 -> 0.5 -> 1
    arm       <=   u(salt.arm) among the weights, which stay

Raising c only adds units, nobody changes arms, and the share of each arm among those enrolled is
the same at each step. With one draw and a growing weight, units would move from one arm to the
other at every step, and what changes with time would look like an effect of the version.

Everything is compared in whole numbers of 2^-64: as a float, the largest u would round up to 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b
from itertools import accumulate, pairwise
from math import ceil

from pelton.routing.policy import Split

RANGE = 1 << 64
"""Draws are from 0 up to and without it."""


def prefix_of(salt: str, purpose: str) -> bytes:
    """Return what is hashed before the unit.

    Neither part holds a colon, and no purpose a dot, so no two pairs have the same prefix.

    Args:
        salt: of a split, or a route's name.
        purpose: `enrolled`, `arm` or `shadow`.
    """
    return f"{salt}.{purpose}:".encode()


def draw(prefix: bytes, unit: str) -> int:
    """Return a number from 0 to 2^64 - 1 that looks random and depends on the arguments alone.

    >>> draw(prefix_of("digits", "arm"), "robot-7") / RANGE < 1.0
    True
    """
    hashed = blake2b(prefix + unit.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big")


def bound_of(share: float | Fraction) -> int:
    """Return the number below which a draw falls with a probability of `share`, exactly.

    >>> bound_of(0.0), bound_of(0.5) == 1 << 63, bound_of(1.0) == RANGE
    (0, True, True)
    """
    return ceil(Fraction(share) * RANGE)


class Assignment:
    """The two draws of one split.

    Attributes:
        probabilities: of each arm, among the units that are enrolled.
    """

    __slots__ = ("_arm_prefix", "_bounds", "_enrolled_below", "_enrolled_prefix", "probabilities")

    def __init__(self, split: Split) -> None:
        sums = list(accumulate(Fraction(arm.weight) for arm in split.arms))
        self._bounds = [bound_of(upto / sums[-1]) for upto in sums]
        widths = (high - low for low, high in pairwise([0, *self._bounds]))
        self.probabilities: Sequence[float] = tuple(width / RANGE for width in widths)
        self._enrolled_below = bound_of(split.enrolled)
        self._enrolled_prefix = prefix_of(split.salt, "enrolled")
        self._arm_prefix = prefix_of(split.salt, "arm")

    def enrolled(self, unit: str) -> bool:
        """Tell whether a unit takes part."""
        bound = self._enrolled_below
        return bound == RANGE or draw(self._enrolled_prefix, unit) < bound

    def arm(self, unit: str) -> int:
        """Return which arm a unit has, from 0; also before it takes part."""
        return bisect_right(self._bounds, draw(self._arm_prefix, unit))
