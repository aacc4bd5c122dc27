"""One load for many, its failure told to all, and another try only after a while."""

from __future__ import annotations

import asyncio
import gc

import pytest

from engine.virtual_time import in_virtual_time, settle
from pelton.errors import LoadFailed, Unavailable
from pelton.lifecycle.loading_once import FIRST_DELAY_S, LONGEST_DELAY_S, LoadingOnce


class Loader:
    """Takes a second for each load, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.failures = 0
        self.error: Exception = LoadFailed("the file is broken")

    async def __call__(self, name: str) -> str:
        self.loads.append(name)
        await asyncio.sleep(1.0)
        if self.failures:
            self.failures -= 1
            raise self.error
        return f"{name} {len(self.loads)}"


@in_virtual_time
async def test_many_who_wait_cause_one_load() -> None:
    loader = Loader()
    once = LoadingOnce(loader)
    waiting = [asyncio.create_task(once.get("a")) for _ in range(50)]
    await settle()
    assert once.is_loading("a")
    assert set(await asyncio.gather(*waiting)) == {"a 1"}
    assert loader.loads == ["a"]
    assert not once.is_loading("a")


@in_virtual_time
async def test_different_names_are_loaded_side_by_side() -> None:
    once = LoadingOnce(Loader())
    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*[once.get(name) for name in "abc"])
    assert asyncio.get_running_loop().time() - began_s == 1.0


@in_virtual_time
async def test_a_failure_is_told_to_all_who_wait() -> None:
    loader = Loader()
    loader.failures = 1
    once = LoadingOnce(loader)
    told = await asyncio.gather(*[once.get("a") for _ in range(3)], return_exceptions=True)
    assert [str(error) for error in told] == ["the file is broken"] * 3
    assert all(isinstance(error, LoadFailed) for error in told)
    assert loader.loads == ["a"]


@in_virtual_time
async def test_after_a_failure_there_is_no_other_try_before_a_delay_that_doubles() -> None:
    loader = Loader()
    loader.failures = 100
    once = LoadingOnce(loader)
    loop = asyncio.get_running_loop()
    delays_s = []
    for _ in range(9):
        with pytest.raises(LoadFailed):
            await once.get("a")
        with pytest.raises(Unavailable, match="a moment ago; it is tried again") as told:
            await once.get("a")
        assert told.value.retry_after_s is not None
        delays_s.append(told.value.retry_after_s)
        await asyncio.sleep(told.value.retry_after_s)
    assert delays_s == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert (FIRST_DELAY_S, LONGEST_DELAY_S) == (1.0, 60.0)
    assert len(loader.loads) == 9
    assert loop.time() > 240


@in_virtual_time
async def test_a_load_that_succeeds_makes_the_next_delay_short_again() -> None:
    loader = Loader()
    once = LoadingOnce(loader)
    for fails in (True, True, False, True):
        loader.failures = int(fails)
        if fails:
            with pytest.raises(LoadFailed):
                await once.get("a")
            await asyncio.sleep(2.5)
        else:
            await once.get("a")
    assert await once.get("a") == "a 5", "after the delay of a first failure, not of a third"


@in_virtual_time
async def test_no_room_is_no_failure_of_the_load() -> None:
    loader = Loader()
    loader.failures, loader.error = 1, Unavailable("no room")
    once = LoadingOnce(loader)
    with pytest.raises(Unavailable, match=r"^no room$"):
        await once.get("a")
    assert await once.get("a") == "a 2"


@in_virtual_time
async def test_a_failure_may_be_forgiven() -> None:
    loader = Loader()
    loader.failures = 1
    once = LoadingOnce(loader)
    with pytest.raises(LoadFailed):
        await once.get("a")
    once.forgive("a")
    assert await once.get("a") == "a 2"


@in_virtual_time
async def test_who_leaves_does_not_end_the_load() -> None:
    loader = Loader()
    once = LoadingOnce(loader)
    leaving = asyncio.create_task(once.get("a"))
    staying = asyncio.create_task(once.get("a"))
    await settle()
    leaving.cancel()
    assert await staying == "a 1"
    with pytest.raises(asyncio.CancelledError):
        await leaving


@in_virtual_time
async def test_a_load_that_fails_when_all_have_left_is_no_noise() -> None:
    loader = Loader()
    loader.failures = 1
    once = LoadingOnce(loader)
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    leaving = asyncio.create_task(once.get("a"))
    await settle()
    leaving.cancel()
    await asyncio.sleep(2.0)
    del leaving, loader.error
    gc.collect()
    assert noise == []
    assert await once.get("a") == "a 2"


@in_virtual_time
async def test_closing_gives_up_what_is_under_way() -> None:
    once = LoadingOnce(Loader())
    waiting = asyncio.create_task(once.get("a"))
    await settle()
    await once.close()
    with pytest.raises(Unavailable, match="loading of 'a' was given up"):
        await waiting
    assert not once.is_loading("a")
