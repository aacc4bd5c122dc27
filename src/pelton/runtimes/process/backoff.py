"""How long a worker that died waits before it is started again."""

from __future__ import annotations

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0

GOOD_WHILE_S = 60.0
"""A worker that was well for this long starts again after the first delay."""


class Backoff:
    """Each delay is twice as long as the one before, up to the longest.

    Attributes:
        delay_s: the next one.
    """

    def __init__(self) -> None:
        self.delay_s = FIRST_DELAY_S

    def died(self, well_s: float) -> None:
        """Note the end of a worker that had been well for so long."""
        if well_s > GOOD_WHILE_S:
            self.delay_s = FIRST_DELAY_S

    def take_s(self) -> float:
        """Return how long to wait now."""
        delay_s = self.delay_s
        self.delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s
