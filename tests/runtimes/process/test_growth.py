"""A worker that takes more memory than it may is replaced, and nobody notices."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pelton.errors import Unavailable
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process import backoff as backoff_module
from pelton.runtimes.process import instance as instance_module
from pelton.runtimes.process.instance import ProcessInstance
from pelton.runtimes.process.starting import start_instances
from runtimes.process import asking
from runtimes.process.asking import until_alive

MIB = 1024 * 1024
ROOM_BYTES = 64 * MIB

GROWING = """
    import os, time
    HELD = []
    def model_inference(obs):
        HELD.append(b"x" * obs.get("bytes", 0))
        while (path := obs.get("until")) and not os.path.exists(path):
            time.sleep(0.001)
        return os.getpid()
    """

PICKY = """
import os
def load_model(model_path, device):
    if os.path.exists({flag!r}):
        os.remove({flag!r})
        raise ValueError("on purpose")
def model_inference(obs):
    HELD.append(b"x" * obs.get("bytes", 0))
    return os.getpid()
HELD = []
"""


@pytest.fixture(autouse=True)
def _look_often(monkeypatch) -> None:
    monkeypatch.setattr(instance_module, "LOOK_S", 0.005)
    monkeypatch.setattr(backoff_module, "FIRST_DELAY_S", 0.001)


@pytest.fixture
def bounded(start, spec_of):
    """Start a worker that may take little more than it takes at first."""
    started: list[ProcessInstance] = []

    def begin(code: str, **fields: str) -> ProcessInstance:
        spec = spec_of(code, **fields)
        (instance,) = start_instances(spec, RuntimeOptions(), None, 1)
        most_bytes = (instance.own_bytes or 0) + ROOM_BYTES
        instance.close()
        instance.wait_closed()
        started.extend(start_instances(spec, RuntimeOptions(), None, 1, most_bytes=most_bytes))
        return started[-1]

    yield begin
    for instance in started:
        instance.close()
        instance.wait_closed()


async def ask(instance: ProcessInstance, **inputs: Any) -> int:
    """Run the model once, and return its process."""
    (pid,) = (await asking.ask(instance, **inputs)).values()
    return pid


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - processes that nobody waits for tell no event
        await asyncio.sleep(0.001)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_coming(instance: ProcessInstance) -> None:
    await until(lambda: instance._coming is not None and instance._coming.ready)


async def test_a_worker_that_leaks_is_replaced_while_it_answers(bounded) -> None:
    instance = bounded(GROWING)
    seen: list[bool] = []
    instance.on_change(lambda: seen.append(instance.alive))
    first = await ask(instance, bytes=0)
    pids = [first]
    while instance.restarts < 3:
        pids.append(await ask(instance, bytes=2 * MIB))
        await asyncio.sleep(0)
        assert len(pids) < 1000
    assert len(set(pids)) >= 3
    assert seen == [], "there was always a worker to run it"
    await until(lambda: not is_there(first))


async def test_a_worker_within_its_bound_stays(bounded) -> None:
    instance = bounded(GROWING)
    first = await ask(instance, bytes=ROOM_BYTES // 2)
    looks = 0
    is_too_large = instance._growth.is_too_large

    def look(own_bytes: int | None) -> bool:
        nonlocal looks
        looks += 1
        return is_too_large(own_bytes)

    instance._growth.is_too_large = look
    await until(lambda: looks >= 5)
    assert await ask(instance) == first
    assert instance.restarts == 0


async def test_a_run_that_is_under_way_is_finished_first(bounded, tmp_path: Path) -> None:
    instance = bounded(GROWING)
    flag = tmp_path / "go on"
    before = await ask(instance)
    running = asyncio.create_task(ask(instance, bytes=2 * ROOM_BYTES, until=str(flag)))
    await until_coming(instance)
    assert not running.done()
    flag.touch()
    assert await running == before
    assert await ask(instance) != before


async def test_the_run_of_a_caller_that_left_is_finished_first(bounded, tmp_path: Path) -> None:
    instance = bounded(GROWING)
    flag = tmp_path / "go on"
    before = await ask(instance)
    running = asyncio.create_task(ask(instance, bytes=2 * ROOM_BYTES, until=str(flag)))
    await until_coming(instance)
    running.cancel()
    await asyncio.wait({running})
    flag.touch()
    assert await ask(instance) != before


async def test_one_that_dies_meanwhile_is_followed_by_the_one_that_comes(
    bounded, tmp_path: Path
) -> None:
    instance = bounded(GROWING)
    running = asyncio.create_task(
        ask(instance, bytes=2 * ROOM_BYTES, until=str(tmp_path / "never"))
    )
    await until_coming(instance)
    coming = instance._coming
    instance.give_up()
    with pytest.raises(Unavailable, match="did not answer in time and was ended"):
        await running
    await until_alive(instance)
    assert instance._worker is coming
    assert instance.restarts == 1


async def test_one_that_cannot_be_loaded_anew_goes_on(spec_of, bounded, tmp_path, caplog) -> None:
    flag = tmp_path / "refuse"
    instance = bounded(PICKY.format(flag=str(flag)), head="")
    before = await ask(instance)
    flag.touch()
    assert await ask(instance, bytes=2 * ROOM_BYTES) == before
    while flag.exists():
        assert await ask(instance) == before
        await asyncio.sleep(0.001)
    await until(lambda: instance.restarts == 1)
    assert await ask(instance) != before
    assert "on purpose" in caplog.text


async def test_closed_meanwhile_it_leaves_no_process(bounded) -> None:
    instance = bounded(GROWING)
    pid = await ask(instance, bytes=2 * ROOM_BYTES)
    await until(lambda: instance._coming is not None)
    pids = [pid, instance._coming._child._process.pid]
    instance.close()
    instance.wait_closed()
    assert not any(map(is_there, pids))


async def test_where_memory_runs_out_the_kernel_ends_a_worker_first(start) -> None:
    instance = start(
        """
        from pathlib import Path
        def model_inference(obs):
            return int(Path("/proc/self/oom_score_adj").read_text())
        """
    )
    assert await ask(instance) >= 500
