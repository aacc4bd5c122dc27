"""Whether a helper that has failed may be asked again: not for a while, and then by one only.

    closed --failed--> open --hold is over, one asks--> open --it succeeded--> closed

The hold doubles with each failure that comes soon after another, up to a bound, so a helper that
is well every other moment is left alone for longer and longer.
"""

from __future__ import annotations

FIRST_HOLD_S = 0.5
LONGEST_HOLD_S = 30.0

CALM_S = 60.0
"""After so long without a failure, the next one is the first again."""


class Breaker:
    """Remembers failures; pure, the time is handed in.

    Attributes:
        open: whether the helper counts as failed.
    """

    def __init__(self) -> None:
        self.open = False
        self._hold_s = 0.0
        self._ask_again_s = 0.0
        self._failed_s = float("-inf")

    def allows(self, now_s: float) -> bool:
        """Tell whether to ask now; of those for whom a hold is over, only the first is told so."""
        if not self.open:
            return True
        if now_s < self._ask_again_s:
            return False
        self._ask_again_s = now_s + self._hold_s
        return True

    def succeeded(self) -> bool:
        """Take in a success; return whether it changed the state."""
        changed, self.open = self.open, False
        return changed

    def failed(self, now_s: float) -> bool:
        """Take in a failure; return whether it changed the state."""
        if self.open and now_s < self._failed_s + self._hold_s:
            return False  # it was asked before the first failure was known
        recent = now_s - self._failed_s < CALM_S
        self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S) if recent else FIRST_HOLD_S
        self._failed_s = now_s
        self._ask_again_s = now_s + self._hold_s
        changed, self.open = not self.open, True
        return changed
