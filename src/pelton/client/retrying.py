"""Whether a failed try is repeated, and after which pause."""

from __future__ import annotations

import random
from collections.abc import Callable

from pelton.client.failure import Again, NoReply
from pelton.client.options import Retries
from pelton.errors import PeltonError, Unavailable

_SHORTEST_TRY_S = 0.005
"""With less time than this no further try begins; event loops may even wake that much early."""


class Attempts:
    """Counts the tries of one call.

    A request is repeated only where the server cannot have acted on it, or where acting twice
    does no harm (RFC 9110, section 9.2.2). Pauses grow exponentially with full jitter: each is
    drawn evenly from 0 to its bound, so that clients that failed together do not return
    together (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    def __init__(
        self, retries: Retries, *, idempotent: bool, draw: Callable[[], float] = random.random
    ) -> None:
        """Begin before the first try.

        Args:
            retries: how many tries and which pauses.
            idempotent: whether the server may act on the request twice.
            draw: returns an even draw from 0 to 1.
        """
        self._retries = retries
        self._idempotent = idempotent
        self._draw = draw
        self._failed = 0

    def pause_s(self, failure: NoReply | Unavailable, left_s: float) -> float | None:
        """Decide after a failed try.

        Args:
            failure: why it failed. A refusal counts as "try later" only if the server said when,
                because only then has it certainly done nothing.
            left_s: seconds that the caller still allows.

        Returns:
            Seconds to wait before the next try; None to give up, also where next to no time
            would be left after the pause.
        """
        self._failed += 1
        if self._failed >= self._retries.attempts or not self._may_repeat(failure):
            return None
        bound_s = self._retries.first_delay_s * 2.0 ** min(self._failed - 1, 64)
        pause_s = self._draw() * min(bound_s, self._retries.max_delay_s)
        if isinstance(failure, Unavailable) and failure.retry_after_s is not None:
            pause_s += failure.retry_after_s
        return pause_s if pause_s + _SHORTEST_TRY_S < left_s else None

    def _may_repeat(self, failure: NoReply | Unavailable) -> bool:
        if isinstance(failure, Unavailable):
            return failure.retry_after_s is not None
        return failure.again is Again.SAFE or (
            failure.again is Again.IF_IDEMPOTENT and self._idempotent
        )


def as_error(failure: NoReply | Unavailable) -> PeltonError:
    """Return what the caller is told of the last failure."""
    return failure.error if isinstance(failure, NoReply) else failure
