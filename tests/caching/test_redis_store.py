"""A Redis that is not well costs hits and nothing else; tested against a real one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator

import numpy as np
import pytest

from caching.plain_values import bits
from engine.virtual_time import settle
from pelton.caching import redis_store
from pelton.caching.breaker import FIRST_HOLD_S
from pelton.caching.cache import How, ResultCache
from pelton.caching.entry import entry_of
from pelton.caching.memory import MemoryStore
from pelton.caching.redis_store import ON_LOOP_BYTES, RedisOptions, RedisStore, open_redis
from pelton.caching.seal import MAGIC, sealed
from pelton.engine import eager
from pelton.errors import SettingsError
from pelton.messages import InferRequest, InferResponse
from pelton.specs import ModelMetadata
from pelton.testing.fakes import FakeClock

METADATA = ModelMetadata("m", "1", "test", (), ())
KEY = hashlib.sha256(b"key").digest()
NAME = f"pelton:answer:{KEY.hex()}"
ENTRY = entry_of({"y": np.arange(3.0), "n": [1, {"a": None}]}, "sha256:d")

PATIENT_S = 10.0
"""For tests of a Redis that is well, on a machine that may be busy."""


@contextlib.asynccontextmanager
async def opened(url: str, timeout_s: float = PATIENT_S, **options) -> AsyncIterator[RedisStore]:
    store = open_redis(RedisOptions(url, timeout_s=timeout_s, **options), FakeClock())
    try:
        yield store
    finally:
        await store.close()


async def put(store: RedisStore, entry=ENTRY, ttl_s=60.0, key=KEY) -> None:
    store.put(key, entry, ttl_s)
    await store.settled()


async def well_again(store: RedisStore) -> None:
    """Let the hold pass, and the question after it find out that Redis is well."""
    store._clock.advance(100 * FIRST_HOLD_S)
    assert await store.get(KEY) is None, "no request waits for a Redis that had failed"
    await store.settled()


async def test_what_was_put_is_there_for_others_and_for_its_time(redis_server) -> None:
    async with opened(redis_server.url) as one, opened(redis_server.url) as other:
        assert await other.get(KEY) is None
        await put(one)
        entry, left_s = await other.get(KEY)
        assert bits(entry.outputs) == bits(ENTRY.outputs)
        assert entry.digest == "sha256:d"
        assert 0 < left_s <= 60.0
        assert await other.get(hashlib.sha256(b"other").digest()) is None
        assert (one.counts.stored, other.counts.hits, other.counts.misses) == (1, 1, 2)


async def test_it_ends_by_itself(redis_server) -> None:
    async with opened(redis_server.url) as store:
        await put(store, ttl_s=60.0)
        assert 0 < int(redis_server.command("PTTL", NAME)[1:]) <= 60_000
        redis_server.command("PEXPIREAT", NAME, "1")  # as if that time had passed
        assert await store.get(KEY) is None


async def test_what_has_no_end_was_not_put_by_us(redis_server) -> None:
    async with opened(redis_server.url) as store:
        redis_server.command("SET", NAME, sealed(KEY, ENTRY))
        assert await store.get(KEY) is None


async def test_namespaces_are_apart(redis_server) -> None:
    async with opened(redis_server.url) as one:
        async with opened(redis_server.url, namespace="other") as other:
            await put(one)
            assert await other.get(KEY) is None
        assert redis_server.command("KEYS", "*").splitlines()[-1] == NAME.encode()


@pytest.mark.parametrize("extra", [-1, 1])
async def test_large_answers_are_kept_up_to_the_bound(redis_server, extra) -> None:
    largest = 4 * ON_LOOP_BYTES
    overhead = entry_of({"y": np.zeros(0, "u1")}).size_bytes
    entry = entry_of({"y": np.ones(largest - overhead + extra, "u1")})
    async with opened(redis_server.url, max_entry_bytes=largest) as store:
        await put(store, entry)
        found = await store.get(KEY)
        assert (found is not None) == (extra < 0)
        if found is not None:
            assert bits(found[0].outputs) == bits(entry.outputs)


async def test_flushall_costs_a_hit(redis_server) -> None:
    async with opened(redis_server.url) as store:
        await put(store)
        redis_server.command("FLUSHALL")
        assert await store.get(KEY) is None
        await put(store)
        assert await store.get(KEY) is not None
        assert store.counts.errors == 0


async def test_a_restart_costs_hits_for_a_while(redis_server, caplog) -> None:
    caplog.set_level(logging.INFO, "pelton.caching")
    async with opened(redis_server.url) as store:
        await put(store)
        redis_server.stop()
        for _ in range(5):
            assert await store.get(KEY) is None
            await put(store)
        assert store.counts.errors == 1, "after the first failure nobody asks"
        assert store.counts.skipped == 9
        redis_server.start_again()
        assert await store.get(KEY) is None, "nor before the hold is over"
        await well_again(store)
        await put(store)
        assert await store.get(KEY) is not None
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("the result cache goes without Redis (ConnectionError)")
    assert said[1] == "the result cache uses Redis again"


async def test_one_that_stays_away_is_asked_once_in_a_while_and_logged_once(
    redis_server, caplog
) -> None:
    redis_server.stop()
    async with opened(redis_server.url) as store:
        await store.check()
        for _ in range(3):
            await well_again(store)
        assert store.counts.errors == 3
    assert len(caplog.records) == 1


async def test_a_frozen_one_is_waited_for_once_and_used_again_later(redis_server) -> None:
    async with opened(redis_server.url) as store:
        await put(store)
        assert await store.get(KEY) is not None
        # The time that is allowed, shortened now that the connection is there.
        store._options = RedisOptions(redis_server.url, timeout_s=0.02)
        redis_server.freeze()
        for _ in range(5):
            assert await store.get(KEY) is None
        assert (store.counts.late, store.counts.errors, store.counts.skipped) == (1, 0, 4)
        store._clock.advance(0.1)
        redis_server.thaw()
        await store.settled()
        assert store.counts.hits == 2, "the late reply was read"
        assert await store.get(KEY) is None, "but one that is late is not well"
        store._options = RedisOptions(redis_server.url, timeout_s=PATIENT_S)
        await well_again(store)
        assert await store.get(hashlib.sha256(b"other").digest()) is None
        entry, _ = await store.get(KEY)
        assert bits(entry.outputs) == bits(ENTRY.outputs), "each reply belongs to its question"


async def test_one_that_always_answers_late_is_not_taken_to_be_well(redis_server) -> None:
    async with opened(redis_server.url) as store:
        store._options = RedisOptions(redis_server.url, timeout_s=-1.0)
        assert await store.get(KEY) is None
        await store.settled()
        for _ in range(3):
            await well_again(store)
        assert store.counts.misses == 1, "the one reply that came, late; then it was only pinged"


async def test_who_leaves_while_it_is_slow_leaves_no_reply_for_the_next(redis_server) -> None:
    async with opened(redis_server.url) as store:
        await put(store)
        redis_server.freeze()
        asking = asyncio.create_task(store.get(KEY))
        await settle()  # until the question is on its way
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        redis_server.thaw()
        assert await store.get(hashlib.sha256(b"other").digest()) is None
        assert await store.get(KEY) is not None
        assert (store.counts.errors, store.counts.malformed) == (0, 0)


async def test_a_request_that_is_begun_outside_of_any_task_may_ask(redis_server) -> None:
    async with opened(redis_server.url) as store:
        await put(store)
        found, ended = [], asyncio.Event()

        async def ask() -> None:
            found.append(await store.get(KEY))
            ended.set()

        asyncio.get_running_loop().call_soon(lambda: rests.append(eager.start(ask())))
        rests: list[asyncio.Task[None] | None] = []
        await ended.wait()
        assert found != [None]


async def test_closing_gives_up_what_is_under_way(redis_server) -> None:
    async with opened(redis_server.url) as store:
        redis_server.freeze()
        asking = asyncio.create_task(store.get(KEY))
        store.put(KEY, ENTRY, 60.0)
        await settle()
        await store.close()
        assert await asking is None
        assert store.counts.errors == 0, "nothing was waited for until it failed"


async def test_something_of_another_type_is_passed_over_and_replaced(redis_server, caplog) -> None:
    async with opened(redis_server.url) as store:
        redis_server.command("RPUSH", NAME, "a", "b")
        for _ in range(3):
            assert await store.get(KEY) is None
        assert store.counts.malformed == 3
        assert len(caplog.records) == 1
        await put(store)
        assert await store.get(KEY) is not None, "and other keys were never affected"


def hostile() -> list[bytes]:
    whole = sealed(KEY, ENTRY)
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    other = sealed(hashlib.sha256(b"other").digest(), ENTRY)
    return [b"x", MAGIC, whole[:-1], whole + b"\0", flipped, other, b"\x80\x04N.", whole[1:]]


@pytest.mark.parametrize("content", hostile())
async def test_bytes_that_are_no_answer_are_passed_over(redis_server, content) -> None:
    async with opened(redis_server.url) as store:
        redis_server.command("SET", NAME, content, "PX", "60000")
        assert await store.get(KEY) is None
        assert store.counts.malformed == 1
        await put(store)
        assert await store.get(KEY) is not None


async def test_of_something_huge_only_as_much_is_read_as_an_answer_may_have(redis_server) -> None:
    async with opened(redis_server.url, max_entry_bytes=1000) as store:
        redis_server.command("SETRANGE", NAME, "100000000", "x")
        redis_server.command("PEXPIRE", NAME, "60000")
        assert await store.get(KEY) is None
        assert store.counts.malformed == 1
        sent = redis_server.command("INFO", "stats").split(b"total_net_output_bytes:")[1]
        assert int(sent.split(b"\r\n")[0]) < 100_000


async def test_one_that_is_full_keeps_nothing_but_gives_what_it_has(redis_server, caplog) -> None:
    async with opened(redis_server.url) as store:
        await put(store)
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            await put(store, key=hashlib.sha256(b"other").digest())
        assert await store.get(KEY) is not None
        assert (store.counts.errors, store.counts.skipped) == (1, 2)
        assert [record.getMessage() for record in caplog.records] == [
            "Redis keeps no more answers (OutOfMemoryError); it is tried again later"
        ]
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
        store._clock.advance(FIRST_HOLD_S)
        await put(store)
        assert store.counts.stored == 2


PASSWORD = "s3cret-word"


async def test_the_right_password_opens_it(start_redis) -> None:
    async with opened(start_redis(password=PASSWORD).url) as store:
        await store.check()
        await put(store)
        assert await store.get(KEY) is not None


async def test_a_user_who_may_not_read_is_refused_at_the_start(redis_server) -> None:
    redis_server.command("ACL", "SETUSER", "cook", "on", ">wr0ng-word", "~other:*", "+@all")
    async with opened(f"redis://cook:wr0ng-word@127.0.0.1:{redis_server.port}") as store:
        with pytest.raises(SettingsError, match=r"GETRANGE, PTTL and SET on pelton:answer:\*"):
            await store.check()


async def test_one_that_comes_to_refuse_reading_is_left_alone(redis_server, caplog) -> None:
    redis_server.command("ACL", "SETUSER", "cook", "on", ">secret", "~*", "+@all")
    async with opened(f"redis://cook:secret@127.0.0.1:{redis_server.port}") as store:
        await put(store)
        redis_server.command("ACL", "SETUSER", "cook", "-getrange")
        for _ in range(3):
            assert await store.get(KEY) is None
            await well_again(store)
        assert (store.counts.malformed, len(caplog.records)) == (0, 1)
        redis_server.command("ACL", "SETUSER", "cook", "+getrange")
        await well_again(store)
        assert await store.get(KEY) is not None


async def test_text_that_takes_more_bytes_than_memory_is_not_cut(redis_server) -> None:
    entry = entry_of({"y": "\u4e2d" * 10_000})
    async with opened(redis_server.url, max_entry_bytes=entry.size_bytes) as store:
        await put(store, entry)
        assert await store.get(KEY) is None
        assert (store.counts.misses, store.counts.malformed) == (1, 0)


@pytest.mark.parametrize("said", ["", ":wr0ng-word@", "somebody:wr0ng-word@"])
async def test_a_wrong_password_is_refused_at_the_start_and_never_told(
    start_redis, caplog, said
) -> None:
    server = start_redis(password=PASSWORD)
    async with opened(f"redis://{said}127.0.0.1:{server.port}") as store:
        with pytest.raises(SettingsError, match="refuses the user name or the password") as refused:
            await store.check()
        assert "word" not in str(refused.value).replace("password", "")
        assert refused.value.__cause__ is None
        assert await store.get(KEY) is None
    assert "wr0ng" not in caplog.text


async def test_one_that_is_down_at_the_start_may_come_later(start_redis, caplog) -> None:
    server = start_redis(password=PASSWORD)
    server.stop()
    async with opened(server.url) as store:
        await store.check()
        server.start_again()
        await well_again(store)
        await put(store)
        assert await store.get(KEY) is not None
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="http"),
        pytest.param(b"$zzz\r\n", id="length"),
        pytest.param(b"\xff" * 99, id="endless"),
        pytest.param(b"+OK\r\n", id="agreeable"),
        pytest.param(b":1\r\n", id="numbers"),
    ],
)
async def test_something_that_is_no_redis_costs_nothing_but_hits(reply) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(1000):
            writer.write(reply * asked.count(b"*"))  # once for each command
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server, opened(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        store._options = RedisOptions("", timeout_s=0.1)
        assert await store.get(KEY) is None
        assert store.counts.errors + store.counts.late == 1


async def test_one_that_hangs_up_is_not_tried_again_while_a_request_waits() -> None:
    met = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, opened(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        assert await store.get(KEY) is None
        assert (len(met), store.counts.errors) == (1, 1)


@pytest.mark.parametrize("url", ["", "host:6379", "http://:s3cret@h/", "redis://:s3cret@h:port/0"])
def test_what_is_no_url_is_refused_without_being_repeated(url) -> None:
    with pytest.raises(SettingsError, match="looks like redis://") as refused:
        open_redis(RedisOptions(url), FakeClock())
    assert "s3cret" not in str(refused.value)


def test_the_url_is_not_in_the_text_of_the_options() -> None:
    assert "s3cret" not in repr(RedisOptions("redis://:s3cret@h"))


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    with pytest.raises(SettingsError, match=r"pip install 'pelton\[redis\]'"):
        open_redis(RedisOptions("redis://h"), FakeClock())


async def test_only_so_many_wait_for_it_at_once(redis_server, monkeypatch) -> None:
    monkeypatch.setattr(redis_store, "MAX_READS", 2)
    monkeypatch.setattr(redis_store, "MAX_WRITES", 1)
    async with opened(redis_server.url) as store:
        store.put(KEY, ENTRY, 60.0)
        store.put(KEY, ENTRY, 60.0)
        await store.settled()
        assert (store.counts.stored, store.counts.skipped) == (1, 1)
        found = await asyncio.gather(*[store.get(KEY) for _ in range(5)])
        assert [each is not None for each in found] == [True, True, False, False, False]
        assert await store.get(KEY) is not None


async def test_requests_are_answered_whatever_happens_to_it(redis_server) -> None:
    clock = FakeClock()
    async with opened(redis_server.url) as store:

        async def ask() -> How:
            memory = MemoryStore(100_000, clock)  # a new one, so that only Redis can have it
            cache = ResultCache(METADATA, "sha256:0", memory, 60.0, clock, far=store)
            response, how = await cache.answer(InferRequest("m", {}), {}, "", compute)
            assert response.outputs["y"].tolist() == [7]
            await store.settled()
            return how

        async def compute() -> InferResponse:
            return InferResponse("m", "1", {"y": np.array([7])})

        said = [await ask(), await ask()]
        redis_server.command("FLUSHALL")
        said += [await ask(), await ask()]
        redis_server.stop()
        said += [await ask(), await ask()]
        redis_server.start_again()
        store._clock.advance(FIRST_HOLD_S)
        said += [await ask(), await ask(), await ask()]
        misses, hits = How.MISS, How.HIT
        assert said == [misses, hits, misses, hits, misses, misses, misses, misses, hits]
