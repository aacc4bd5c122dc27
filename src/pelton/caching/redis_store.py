"""Answers kept in Redis, for several servers to share.

A Redis that is down, slow, full, flushed, or holds something else under our names costs hits and
nothing else: a request waits for it only for the time that is allowed, and after a failure none
does until a question in the background was answered in time.

What is kept is data under a seal (`seal.py`), never a pickle. The user of Redis needs the commands
GETRANGE, PTTL and SET.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pelton.caching.breaker import Breaker
from pelton.caching.encoding import Malformed, NotPlain
from pelton.caching.entry import Entry
from pelton.caching.seal import SEAL_BYTES, sealed, unsealed
from pelton.clock import Clock
from pelton.errors import SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

logger = logging.getLogger("pelton.caching")

MAX_READS = 64
MAX_WRITES = 32
"""So many may be under way; what comes beyond is not read, or not kept."""

LONGEST_S = 2.0
"""Whatever takes longer than this is given up, also where no request waits for it."""

ON_LOOP_BYTES = 64 * 1024
"""Answers of more bytes than this are sealed and read in a thread."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Which Redis, and how it is used.

    Attributes:
        url: `redis://`, `rediss://` or `unix://`, with user and password where there are any.
        namespace: what the names of all keys begin with.
        timeout_s: for how long a request waits for it.
        max_entry_bytes: larger answers are not kept in it.
    """

    url: str = field(repr=False)
    namespace: str = "pelton"
    timeout_s: float = 0.02
    max_entry_bytes: int = 1024 * 1024


@dataclass(slots=True)
class RedisCounts:
    """What happened so far.

    Attributes:
        hits: answers that were there.
        misses: answers that were not.
        stored: answers that were written.
        skipped: reads and writes that were not tried, since Redis had failed or had too much to do.
        late: reads that were not waited for to the end.
        errors: reads and writes that failed.
        malformed: what was there and was no answer of ours.
    """

    hits: int = 0
    misses: int = 0
    stored: int = 0
    skipped: int = 0
    late: int = 0
    errors: int = 0
    malformed: int = 0


class RedisStore:
    """Keeps entries by key; made by `open_redis`.

    Attributes:
        counts: what happened so far.
    """

    def __init__(self, client: Redis, options: RedisOptions, clock: Clock) -> None:
        self.counts = RedisCounts()
        self._client = client
        self._options = options
        self._clock = clock
        self._most_bytes = SEAL_BYTES + options.max_entry_bytes
        self._reach = Breaker()
        self._keep = Breaker()
        self._reading: set[asyncio.Task[Any]] = set()
        self._writing: set[asyncio.Task[Any]] = set()  # and asking whether Redis is well again

    async def check(self) -> None:
        """Ask Redis once, at the start of the server; one that is not there now may come later.

        Raises:
            SettingsError: it refuses the user name or the password, or lets that user not read.
        """
        from redis.exceptions import AuthenticationError, NoPermissionError

        try:
            async with asyncio.timeout(LONGEST_S):
                await self._probe()
        except (AuthenticationError, NoPermissionError):
            raise SettingsError(
                "Redis refuses the user name or the password in the URL of the result cache, or "
                f"does not let that user use GETRANGE, PTTL and SET on {self._name('*')}"
            ) from None
        except Exception as error:  # noqa: BLE001
            # Border: whatever the client makes of a Redis that is not well costs only hits.
            self._failed(error)

    async def get(self, key: bytes) -> tuple[Entry, float] | None:
        """Return what is kept under a key, and for how many seconds yet, or None; never raises.

        A reply that comes too late for the request is still read, so that a connection that took
        long to open, or to wake up, is there for the next.
        """
        if not self._usable() or len(self._reading) >= MAX_READS:
            self.counts.skipped += 1
            return None
        task = _begun(self._get(key), self._reading)
        done, _ = await asyncio.wait({task}, timeout=self._options.timeout_s)
        if not done:
            self.counts.late += 1
            self._failed(TimeoutError())
            return None
        return None if task.cancelled() else task.result()

    def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        """Have an entry written in the background, for `ttl_s` seconds, if that can be."""
        if entry.size_bytes > self._options.max_entry_bytes:
            return
        busy = len(self._writing) >= MAX_WRITES
        if busy or not self._usable() or not self._keep.allows(self._clock()):
            self.counts.skipped += 1
            return
        _begun(self._put(key, entry, ttl_s), self._writing)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while under_way := {*self._reading, *self._writing}:
            await asyncio.wait(under_way)

    async def close(self) -> None:
        """Give up what is under way, and close the connections."""
        while under_way := {*self._reading, *self._writing}:
            for task in under_way:
                task.cancel()
            # The client swallows a cancellation that meets it while it connects.
            await asyncio.wait(under_way, timeout=0.01)
        await self._client.aclose()

    async def _get(self, key: bytes) -> tuple[Entry, float] | None:
        replies = await self._tried(lambda: self._read(self._name(key.hex())))
        if replies is None:
            return None
        sealed, left_ms = replies
        if sealed is None:
            self._odd("a value of another type")
            return None
        if not sealed or left_ms <= 0:
            self.counts.misses += 1
            return None
        try:
            if len(sealed) > ON_LOOP_BYTES:
                entry = await asyncio.to_thread(unsealed, key, sealed)
            else:
                entry = unsealed(key, sealed)
        except Malformed as error:
            self._odd(str(error))
            return None
        self.counts.hits += 1
        return entry, left_ms / 1000

    async def _put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        try:
            if entry.size_bytes > ON_LOOP_BYTES:
                content = await asyncio.to_thread(sealed, key, entry)
            else:
                content = sealed(key, entry)
        except NotPlain:  # a key of a dict that can be kept in memory only
            return
        if len(content) > self._most_bytes:
            return
        ttl_ms = max(1, int(ttl_s * 1000))

        async def write() -> Any:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.set(self._name(key.hex()), content, px=ttl_ms)
            return (await pipeline.execute(raise_on_error=False))[0]

        reply = await self._tried(write)
        if isinstance(reply, Exception):
            self.counts.errors += 1
            if self._keep.failed(self._clock()):
                logger.warning(
                    "Redis keeps no more answers (%s); it is tried again later",
                    type(reply).__name__,
                )
        elif reply is not None:
            self.counts.stored += 1
            if self._keep.succeeded():
                logger.info("Redis keeps answers again")

    async def _read(self, name: str) -> tuple[bytes | None, int]:
        """Return what is under a name, None if that is no string, and for how many ms yet."""
        pipeline = self._client.pipeline(transaction=False)
        # Not GET: what somebody else put there may be of any size.
        pipeline.getrange(name, 0, self._most_bytes)
        pipeline.pttl(name)
        content, left_ms = await pipeline.execute(raise_on_error=False)
        for reply, kind in ((content, bytes), (left_ms, int)):
            if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
                raise reply
            if not isinstance(reply, kind | Exception):
                raise TypeError("Redis gives no such reply")
        return None if isinstance(content, Exception) else content, left_ms

    async def _probe(self) -> None:
        """Read as a request would, what is never there.

        Raises:
            Exception: of the client; Redis cannot be used.
        """
        await self._read(self._name("probe"))

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        asked_s = self._clock()
        try:
            async with asyncio.timeout(LONGEST_S):
                replies = await ask()
        except Exception as error:  # noqa: BLE001
            # Border: whatever the client makes of a Redis that is not well costs only hits.
            self.counts.errors += 1
            self._failed(error)
            return None
        in_time = self._clock() - asked_s <= self._options.timeout_s
        if in_time and self._reach.succeeded():
            logger.info("the result cache uses Redis again")
        return replies

    def _usable(self) -> bool:
        """Tell whether Redis may be asked; see to it that somebody finds out when not."""
        if not self._reach.open:
            return True
        if self._reach.allows(self._clock()):
            _begun(self._tried(self._probe), self._writing)
        return False

    def _failed(self, error: Exception) -> None:
        if self._reach.failed(self._clock()):
            # Only the kind of error: its text may repeat what was sent, the password included.
            logger.warning(
                "the result cache goes without Redis (%s) until it answers again",
                type(error).__name__,
            )

    def _odd(self, what: str) -> None:
        if not self.counts.malformed:
            logger.warning(
                "Redis holds something under a name of the result cache that is no answer: %s; "
                "such things are passed over, and counted",
                what,
            )
        self.counts.malformed += 1

    def _name(self, of: str) -> str:
        return f"{self._options.namespace}:answer:{of}"


def open_redis(options: RedisOptions, clock: Clock) -> RedisStore:
    """Make a store; nothing is connected yet.

    Raises:
        SettingsError: the package is missing, or the URL is none.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError:
        raise SettingsError(
            "the result cache in Redis needs a package: pip install 'pelton[redis]'"
        ) from None
    try:
        client = Redis.from_url(
            options.url,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            # Its own limits too, since it swallows a cancellation that meets it while it connects.
            socket_connect_timeout=LONGEST_S,
            socket_timeout=LONGEST_S,
        )
    except ValueError:  # its text may hold the password
        raise SettingsError(
            "the URL of the result cache's Redis is not valid; "
            "it looks like redis://user:password@host:6379/0"
        ) from None
    return RedisStore(client, options, clock)


def _begun(work: Coroutine[Any, Any, T], under_way: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    task = asyncio.get_running_loop().create_task(work)
    under_way.add(task)
    task.add_done_callback(under_way.discard)
    return task
