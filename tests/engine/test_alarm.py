"""One timer rings at the earliest time that was asked for, once."""

from __future__ import annotations

import asyncio
import math

from engine.virtual_time import in_virtual_time
from pelton.engine.alarm import Alarm


def ringing() -> tuple[Alarm, list[float]]:
    rung: list[float] = []
    clock = asyncio.get_running_loop().time
    return Alarm(clock, lambda: rung.append(clock())), rung


@in_virtual_time
async def test_it_rings_at_the_earliest_time_only() -> None:
    alarm, rung = ringing()
    now_s = asyncio.get_running_loop().time()
    for seconds in (5.0, 3.0, 4.0, math.inf):
        alarm.by(now_s + seconds)
    await asyncio.sleep(10.0)
    assert rung == [now_s + 3.0]


@in_virtual_time
async def test_it_can_be_set_again_after_it_rang() -> None:
    alarm, rung = ringing()
    now_s = asyncio.get_running_loop().time()
    alarm.by(now_s + 1.0)
    await asyncio.sleep(2.0)
    alarm.by(now_s + 5.0)
    await asyncio.sleep(5.0)
    assert rung == [now_s + 1.0, now_s + 5.0]


@in_virtual_time
async def test_a_time_that_is_over_rings_at_once_and_never_inside_the_call() -> None:
    alarm, rung = ringing()
    alarm.by(asyncio.get_running_loop().time() - 1.0)
    assert rung == []
    await asyncio.sleep(0.001)
    assert len(rung) == 1


@in_virtual_time
async def test_a_stopped_alarm_does_not_ring() -> None:
    alarm, rung = ringing()
    alarm.by(asyncio.get_running_loop().time() + 1.0)
    alarm.stop()
    alarm.stop()
    await asyncio.sleep(2.0)
    assert rung == []
