"""How often somebody may ask: a token bucket for each caller and route, in this process.

A bucket holds `burst` tokens, each request takes one, and `per_s` come back each second. So
`burst` requests pass at once, then one for each 1 / `per_s` seconds. ("Leaky bucket as a meter",
J. Turner, New directions in communications, IEEE Communications Magazine 24(10), 1986.)
"""

from __future__ import annotations

from collections import OrderedDict

from pelton.access.keys import Rate
from pelton.clock import Clock
from pelton.errors import Code, Unavailable

MAX_BUCKETS = 65_536
"""About 20 MB; each caller has one for each route that it uses."""

_SLACK_TOKENS = 1e-6
"""Lets through who waits exactly as long as told; the rounding of a sum is far below it."""


class _Bucket:
    __slots__ = ("at_s", "tokens")

    def __init__(self, tokens: float, at_s: float) -> None:
        self.tokens = tokens
        self.at_s = at_s


class RateLimiter:
    """Counts requests; for use in one thread, such as that of the event loop."""

    def __init__(self, clock: Clock, max_buckets: int = MAX_BUCKETS) -> None:
        """Begin with full buckets.

        Args:
            clock: monotonic seconds.
            max_buckets: how many are kept. Beyond, the one goes that was not used for longest:
                it is the likeliest to be full, and a full one is as good as none.
        """
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, counted_as: str, route: str, rate: Rate) -> None:
        """Count a request, or refuse it; one that is refused takes no token.

        Args:
            counted_as: who asks: id of a key, or an address.
            route: template of the route.
            rate: how often that may be.

        Raises:
            Unavailable: `RATE_LIMITED`, with the seconds until the next token.
        """
        now_s = self._clock()
        name = (counted_as, route)
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._max_buckets:
                self._buckets.popitem(last=False)
            self._buckets[name] = _Bucket(rate.burst - 1.0, now_s)
            return
        self._buckets.move_to_end(name)
        tokens = min(bucket.tokens + (now_s - bucket.at_s) * rate.per_s, float(rate.burst))
        bucket.at_s = now_s
        if tokens < 1 - _SLACK_TOKENS:
            bucket.tokens = tokens
            raise rate_limited(rate, (1 - tokens) / rate.per_s)
        bucket.tokens = tokens - 1


def rate_limited(rate: Rate, retry_after_s: float) -> Unavailable:
    """Say that somebody asks too often.

    Args:
        rate: how often would be fine.
        retry_after_s: until the next request passes.
    """
    return Unavailable(
        f"this is more than {rate.per_s:g} requests per second ({rate.burst} at once); "
        "send fewer, or ask for a key with a higher rate",
        retry_after_s,
        Code.RATE_LIMITED,
    )
