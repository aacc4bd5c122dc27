"""The same token bucket for several nodes together, in Redis.

It is asked besides the bucket of this process, which is always there: a node by itself lets no more
through than the rate allows, and Redis sees to the sum over all nodes. So when Redis is down
or slow, requests are limited by each node alone, and served: somebody may then send as many times
the rate as there are nodes, which is better than to refuse everybody.

One script reads and writes a bucket in one step, by the clock of Redis, since clocks of nodes
differ. The client is the one for asyncio, so that the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

from pelton.access.keys import Rate
from pelton.access.rate_limit import rate_limited
from pelton.clock import Clock
from pelton.errors import SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("pelton.access")

TIMEOUT_S = 0.05
"""How long one request waits for Redis at most."""

PAUSE_S = 1.0
"""After a failure, Redis is left alone for so long: only one request in that time waits in vain."""

_CONNECTIONS = 16

_RETRIES = 1  # a connection that was idle may have been closed by a Redis that was started anew

# A refused request writes nothing: what was kept still tells how full the bucket is. What somebody
# else put under this name is not a bucket, and has to go.
_TAKE = """
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local per_s, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.pcall('HMGET', KEYS[1], 'tokens', 'at_s')
if kept.err then
  redis.call('DEL', KEYS[1])
  kept = {}
end
local tokens = burst
if kept[1] then
  local waited_s = math.max(0, now_s - tonumber(kept[2]))
  tokens = math.min(burst, tonumber(kept[1]) + waited_s * per_s)
end
if tokens < 1 - 0.000001 then
  return string.format('%.6f', (1 - tokens) / per_s)
end
tokens = tokens - 1
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens),
           'at_s', string.format('%.6f', now_s))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / per_s * 1000) + 1000)
return '0'
"""


class RedisLimiter:
    """Counts requests in Redis."""

    def __init__(
        self, url: str, clock: Clock, timeout_s: float = TIMEOUT_S, pause_s: float = PAUSE_S
    ) -> None:
        """Prepare; the first request connects.

        Args:
            url: such as `redis://localhost:6379/0`.
            clock: monotonic seconds.
            timeout_s: how long a request waits for Redis at most.
            pause_s: how long Redis is left alone after a failure.

        Raises:
            SettingsError: the URL is none, or the client library is not installed.
        """
        self._redis = _client(url, timeout_s)
        self._take = self._redis.register_script(_TAKE)
        self._clock = clock
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._is_down = False
        self._again_s = 0.0

    async def take(self, counted_as: str, route: str, rate: Rate) -> None:
        """Count a request, or refuse it; let it pass if Redis does not answer.

        Args:
            counted_as: who asks: id of a key, or an address.
            route: template of the route.
            rate: how often that may be, over all nodes.

        Raises:
            Unavailable: `RATE_LIMITED`, with the seconds until the next token.
        """
        if self._is_down:
            now_s = self._clock()
            if now_s < self._again_s:
                return
            self._again_s = now_s + self._pause_s
        wait_s = await self._ask(counted_as, route, rate)
        if wait_s > 0:
            raise rate_limited(rate, wait_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _ask(self, counted_as: str, route: str, rate: Rate) -> float:
        """Return the seconds until the next token; 0 if there was one, or if nobody knows."""
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self._timeout_s):
                said = await self._take([_name(counted_as, route)], [repr(rate.per_s), rate.burst])
            wait_s = float(said)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_failure(error)
            return 0.0
        if self._is_down:
            self._is_down = False
            logger.info("Redis counts requests again; rate limits hold over all nodes")
        return wait_s

    def _note_failure(self, error: Exception) -> None:
        self._again_s = self._clock() + self._pause_s
        if not self._is_down:
            self._is_down = True
            logger.warning(
                "Redis does not count requests (%s); "
                "until it does, each node limits rates by itself",
                type(error).__name__,
            )


def _client(url: str, timeout_s: float) -> Redis:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise SettingsError(
            "rate limits in Redis need its client library: pip install 'pelton[redis]'"
        ) from None
    # A bound of each step too, since a cancellation may be lost on its way through the client; but
    # a later one, since the client would begin anew after it.
    slow_s = 2 * timeout_s
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=slow_s,
            socket_timeout=slow_s,
            socket_connect_timeout=slow_s,
            retry=Retry(NoBackoff(), _RETRIES),
            decode_responses=True,
        )
    except ValueError:
        raise SettingsError(
            "the URL for rate limits has to look like redis://HOST:PORT/0, rediss:// or unix://"
        ) from None
    return Redis.from_pool(pool)


def _name(counted_as: str, route: str) -> str:
    """Name a bucket: without braces, which mean something to a cluster, or addresses in clear."""
    both = f"{len(counted_as)}:{counted_as}{route}"
    return f"pelton:rate:{hashlib.sha256(both.encode()).hexdigest()}"
