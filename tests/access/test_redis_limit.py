"""The bucket in Redis: one for all nodes, and no harm where Redis fails."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pelton.access.keys import Rate
from pelton.access.redis_limit import RedisLimiter, _name
from pelton.errors import Code, SettingsError, Unavailable
from services.redis import RedisProcess

SLOWLY = Rate(0.001, 3)
"""No token comes back while a test runs."""

PATIENT_S = 10.0
"""So that a busy machine does not look like a Redis that is down."""

PAUSE_MS = 60_000
"""Longer than anybody is patient; the tests end it themselves."""


class Time:
    """A clock that the test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


Make = Callable[..., RedisLimiter]


@pytest.fixture
async def limiter_at() -> AsyncIterator[Make]:
    made: list[RedisLimiter] = []

    def make(url: str, clock: Time | None = None, timeout_s: float = PATIENT_S) -> RedisLimiter:
        made.append(RedisLimiter(url, clock or Time(), timeout_s))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def passes(limiter: RedisLimiter, rate: Rate, who: str = "a", route: str = "/infer") -> bool:
    try:
        await limiter.take(who, route, rate)
    except Unavailable as error:
        if error.code is Code.RATE_LIMITED:
            return False
        raise
    return True


async def test_nodes_together_let_exactly_so_many_pass_at_once(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    nodes = [limiter_at(redis_server.url) for _ in range(2)]
    passed = await asyncio.gather(*(passes(nodes[count % 2], SLOWLY) for count in range(20)))
    assert sum(passed) == 3


async def test_the_refused_are_told_when_the_next_one_passes(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    rate = Rate(0.01, 1)
    assert await passes(limiter, rate)
    with pytest.raises(Unavailable) as refused:
        await limiter.take("a", "/infer", rate)
    assert refused.value.retry_after_s == pytest.approx(100, abs=30)
    assert refused.value.message.startswith("this is more than 0.01 requests per second")


async def test_tokens_come_back_with_the_time_of_redis(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    rate = Rate(0.5, 2)
    assert [await passes(limiter, rate) for _ in range(3)] == [True, True, False]
    with Redis.from_url(redis_server.url, decode_responses=True) as redis:
        name = _name("a", "/infer")
        at_s = float(redis.hget(name, "at_s"))
        redis.hset(name, "at_s", f"{at_s - 2:.6f}")  # as if it had been two seconds before
        assert [await passes(limiter, rate) for _ in range(2)] == [True, False]
        redis.hset(name, "at_s", f"{at_s - 3600:.6f}")
        assert [await passes(limiter, rate) for _ in range(3)] == [True, True, False]
        redis.hset(name, "at_s", f"{at_s + 3600:.6f}")  # its clock was set back
        with pytest.raises(Unavailable) as refused:
            await limiter.take("a", "/infer", rate)
        assert refused.value.retry_after_s <= 2


async def test_others_and_other_routes_have_their_own(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    rate = Rate(0.001, 1)
    assert [await passes(limiter, rate) for _ in range(2)] == [True, False]
    assert await passes(limiter, rate, who="b")
    assert await passes(limiter, rate, route="/stats")
    assert _name("a", "b/c") != _name("ab", "/c")


async def test_a_full_bucket_is_forgotten_by_redis(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    assert await passes(limiter, Rate(0.01, 2), who="203.0.113.9")
    with Redis.from_url(redis_server.url, decode_responses=True) as redis:
        (name,) = redis.keys()
        assert name.startswith("pelton:rate:")
        assert "203.0.113.9" not in name
        assert 90_000 < redis.pttl(name) <= 101_000


@pytest.mark.parametrize("loss", ["flushall", "script_flush"])
async def test_what_redis_forgets_costs_nothing_but_the_count(
    redis_server: RedisProcess, limiter_at: Make, loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_at(redis_server.url)
    assert [await passes(limiter, SLOWLY) for _ in range(4)] == [True, True, True, False]
    with Redis.from_url(redis_server.url) as redis:
        getattr(redis, loss)()
    assert await passes(limiter, SLOWLY) is (loss == "flushall")
    assert caplog.records == []


async def test_what_is_no_bucket_gives_way_to_one(
    redis_server: RedisProcess, limiter_at: Make, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_at(redis_server.url)
    with Redis.from_url(redis_server.url) as redis:
        redis.set(_name("a", "/infer"), "something else")
    assert [await passes(limiter, SLOWLY) for _ in range(4)] == [True, True, True, False]
    assert caplog.records == []


async def test_a_redis_that_refuses_lets_pass_and_is_told_of_once(
    redis_server: RedisProcess, limiter_at: Make, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_at(redis_server.url)
    with Redis.from_url(redis_server.url) as redis:
        redis.config_set("min-replicas-to-write", 1)
    assert [await passes(limiter, SLOWLY) for _ in range(9)] == [True] * 9
    assert [record.message for record in caplog.records] == [
        "Redis does not count requests (ResponseError); "
        "until it does, each node limits rates by itself"
    ]


async def test_a_redis_that_stops_and_comes_back_is_told_of_once(
    redis_server: RedisProcess, limiter_at: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Time()
    limiter = limiter_at(redis_server.url, clock)
    rate = Rate(0.001, 1)
    assert [await passes(limiter, rate) for _ in range(2)] == [True, False]
    redis_server.stop()
    for _ in range(3):
        assert [await passes(limiter, rate) for _ in range(3)] == [True] * 3
        clock.now_s += 1.0
    redis_server.start_again()
    assert [await passes(limiter, rate) for _ in range(2)] == [True, False]
    said = [record.message.partition("(")[0].strip() for record in caplog.records]
    assert said == [
        "Redis does not count requests",
        "Redis counts requests again; rate limits hold over all nodes",
    ]


async def test_a_silent_redis_is_asked_once_and_then_left_alone(limiter_at: Make) -> None:
    asked: list[bytes] = []
    hung_up: asyncio.Queue[None] = asyncio.Queue()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.put_nowait(None)

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    clock = Time()
    limiter = limiter_at(f"redis://{host}:{port}/0", clock, timeout_s=0.2)
    async with server:
        assert [await passes(limiter, SLOWLY) for _ in range(50)] == [True] * 50
        await hung_up.get()
        assert len(asked) == 1
        clock.now_s += 1.0
        assert all(await asyncio.gather(*(passes(limiter, SLOWLY) for _ in range(50))))
        await hung_up.get()
        assert len(asked) == 2


async def test_the_event_loop_goes_on_while_redis_is_silent(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    assert await passes(limiter, SLOWLY)
    async with AsyncRedis.from_url(redis_server.url) as redis:
        await redis.client_pause(PAUSE_MS, all=False)  # of whatever writes
        waiting = asyncio.ensure_future(passes(limiter, SLOWLY))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not waiting.done()
        await redis.client_unpause()
        assert await waiting


async def test_a_cancelled_request_leaves_its_connection_usable(
    redis_server: RedisProcess, limiter_at: Make
) -> None:
    limiter = limiter_at(redis_server.url)
    async with AsyncRedis.from_url(redis_server.url) as redis:
        for turns in range(40):  # more than there are connections
            await redis.client_pause(PAUSE_MS, all=False)  # of whatever writes
            waiting = asyncio.ensure_future(limiter.take("b", "/infer", SLOWLY))
            for _ in range(turns):  # so it is cancelled at any point of its way
                await asyncio.sleep(0)
            waiting.cancel()
            await redis.client_unpause()
            await asyncio.wait({waiting})
    assert [await passes(limiter, SLOWLY) for _ in range(4)] == [True, True, True, False]


def test_a_url_that_is_none_is_refused_without_being_repeated() -> None:
    with pytest.raises(SettingsError, match="has to look like redis://HOST:PORT/0") as refused:
        RedisLimiter("http://user:password@localhost", Time())
    assert "password" not in str(refused.value)


def test_without_its_client_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(SettingsError, match=r"pip install 'pelton\[redis\]'"):
        RedisLimiter("redis://localhost", Time())
