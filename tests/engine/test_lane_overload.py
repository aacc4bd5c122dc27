"""More comes than a model can serve, with deadlines: what is answered is of use, and not little.

Time is virtual and chance is seeded, so each of these is the same every time.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from engine.lanes import Served, rows_of_runs
from engine.virtual_time import in_virtual_time, settle
from pelton.batching.rate import ENOUGH_RUNS, HEADROOM, MEMORY_S
from pelton.errors import DeadlineExceeded, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Run
from pelton.specs import Batching
from pelton.testing import FakeInstance

ALONE = Batching(max_batch_rows=1)
SHARING = Batching(max_batch_rows=8)

RunS = Callable[[int], float]
"""How long a run of so many rows takes."""


class TimedInstance(FakeInstance):
    """Ends each run by itself after as long as a model of a certain speed would take."""

    def __init__(self, run_s: RunS) -> None:
        super().__init__()
        self.run_s = run_s

    async def run(self, run: Run) -> dict[str, Value]:
        seconds = self.run_s(len(run.inputs["x"]))
        asyncio.get_running_loop().call_later(seconds, self.finish)
        return await super().run(run)


@dataclass
class Load:
    """Sends requests of one row at random times and counts what becomes of them.

    Attributes:
        fates: how many had an answer up to now, or which error.
        late_refusals: how many of those that were refused did not hear it at once.
    """

    served: Served
    timeout_s: float
    priorities: Sequence[int] = (0,)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    fates: Counter[str] = field(default_factory=Counter)
    late_refusals: int = 0
    _asked: list[asyncio.Future[None]] = field(default_factory=list)

    async def run(self, per_s: float, seconds: float) -> Counter[str]:
        """Send so many per second for so long; return the fates of that time."""
        before = self.fates.copy()
        end_s = self.served.clock() + seconds
        while self.served.clock() < end_s:
            self._asked.append(asyncio.ensure_future(self._one()))
            await asyncio.sleep(self.chance.expovariate(per_s))
        return self.fates - before

    async def end(self) -> None:
        await asyncio.gather(*self._asked)
        assert self.served.statistics.queued_requests == 0

    async def _one(self) -> None:
        begun_s = self.served.clock()
        priority = self.chance.choice(self.priorities)
        try:
            await self.served.ask(1.0, timeout_s=self.timeout_s, priority=priority)
        except Unavailable:
            self.fates["refused"] += 1
            self.late_refusals += self.served.clock() > begun_s
        except DeadlineExceeded:
            self.fates["expired"] += 1
        else:
            self.fates["answered"] += 1


def uneven(usual: RunS) -> RunS:
    """Add noise: one run takes up to twice as long as another."""
    chance = random.Random(3)
    return lambda rows: usual(rows) * chance.uniform(2 / 3, 4 / 3)


def served_by(run_s: RunS, instances: int = 1, batching: Batching = ALONE, **more: float) -> Served:
    return Served(instances, make=lambda: TimedInstance(run_s), batching=batching, **more)


@pytest.mark.parametrize("patience_runs", [4, 40])
@pytest.mark.parametrize(
    ("instances", "batching", "usual"),
    [
        (1, ALONE, lambda rows: 0.01),
        (4, ALONE, lambda rows: 0.04),
        (1, SHARING, lambda rows: 0.024 + 0.002 * rows),
        (2, SHARING, lambda rows: 0.048 + 0.004 * rows),
    ],
    ids=["one", "four", "sharing", "two-sharing"],
)
@in_virtual_time
async def test_five_times_too_much_leaves_the_goodput_where_it_was(
    instances: int, batching: Batching, usual: RunS, patience_runs: int
) -> None:
    most_rows = batching.max_batch_rows
    peak_per_s = instances * most_rows / usual(most_rows)
    served = served_by(uneven(usual), instances, batching)
    load = Load(served, patience_runs * usual(most_rows), priorities=(0, 6))
    await load.run(5 * peak_per_s, seconds=load.timeout_s + 1.0)
    fates = await load.run(5 * peak_per_s, seconds=4.0)
    await load.end()
    assert fates["answered"] >= 0.9 * 4.0 * peak_per_s
    assert fates["expired"] <= 0.1 * fates["refused"]
    assert load.late_refusals == 0


@in_virtual_time
async def test_where_nobody_is_in_a_hurry_all_are_served_in_order_however_many_come() -> None:
    served = served_by(uneven(lambda rows: 0.01), request_timeout_s=math.inf)
    asked = []
    for number in range(1000):
        asked.append(served.ask(float(number)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*asked)
    assert rows_of_runs(served.instance) == [[float(number)] for number in range(1000)]
    assert (served.statistics.refused_full, served.statistics.expired) == (0, 0)


@in_virtual_time
async def test_who_has_the_time_that_all_before_need_is_served() -> None:
    served = served_by(lambda rows: 0.01)
    await measured(served)
    asked = [served.ask(float(number), timeout_s=0.2) for number in range(40)]
    fates = await asyncio.gather(*asked, return_exceptions=True)
    answered = [not isinstance(fate, Exception) for fate in fates]
    # One runs at once; the others need 10 ms for each that waits ahead, and for themselves.
    in_time = 1 + int(HEADROOM * 0.2 / 0.01)
    assert answered == [number < in_time for number in range(40)]
    assert served.statistics.refused_full == 40 - in_time


@in_virtual_time
async def test_one_that_goes_to_the_front_waits_for_few_and_is_taken_in() -> None:
    served = served_by(lambda rows: 0.01)
    await measured(served)
    waiting = [served.ask(float(number)) for number in range(100)]
    await settle()
    with pytest.raises(Unavailable):
        await served.ask(0.0, timeout_s=0.1)
    with pytest.raises(Unavailable):
        await served.ask(0.0, timeout_s=0.1, priority=9)
    assert (await served.ask(0.0, timeout_s=0.1, priority=1)).model == "m"
    await asyncio.gather(*waiting)


@in_virtual_time
async def test_a_refused_caller_hears_why_and_when_to_come_again() -> None:
    served = served_by(lambda rows: 0.01)
    await measured(served)
    waiting = [served.ask(float(number)) for number in range(101)]
    await settle()
    reason = r"100 rows wait for model 'm'.* within the 0\.5 s"
    with pytest.raises(Unavailable, match=reason) as told:
        await served.ask(0.0, timeout_s=0.5)
    assert told.value.retry_after_s == pytest.approx(0.5, rel=0.1), "half of 100 at 100 per second"
    assert served.statistics.refused_full == 1
    await asyncio.gather(*waiting)


@in_virtual_time
async def test_what_has_less_time_left_than_any_recent_run_took_is_not_started() -> None:
    served = served_by(lambda rows: 0.1)
    await measured(served)
    served.instance.runs.clear()
    running = served.ask(1.0)
    hopeless, patient = served.ask(2.0, timeout_s=0.18), served.ask(3.0)
    begun_s = served.clock()
    with pytest.raises(DeadlineExceeded, match=r"0\.08 s were left when its turn came"):
        await hopeless
    assert served.clock() - begun_s == pytest.approx(0.1)
    await asyncio.gather(running, patient)
    assert rows_of_runs(served.instance) == [[1.0], [3.0]]
    assert served.statistics.expired == 1


@in_virtual_time
async def test_a_short_run_is_not_given_up_for_the_long_ones_around_it() -> None:
    lengths_s = itertools.cycle([0.1, 0.1, 0.1, 0.01])
    served = served_by(lambda rows: next(lengths_s))
    await measured(served, 22)
    running, short = served.ask(1.0), served.ask(2.0, timeout_s=0.13)
    assert (await short).outputs["x"].tolist() == [[2.0, -2.0]], "30 ms were enough for it"
    await running


# -- what keeps a wrong estimate from doing harm -------------------------------------------------


async def measured(served: Served, runs: int = 100) -> None:
    """Let the lane see so many runs, one after the other, of an idle model."""
    for _ in range(runs):
        await served.ask(0.0)


@in_virtual_time
async def test_a_fresh_model_refuses_nothing() -> None:
    served = served_by(lambda rows: 5.0)
    asked = [served.ask(float(number), timeout_s=0.1) for number in range(50)]
    fates = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(fate) for fate in fates} == {DeadlineExceeded}
    assert served.statistics.refused_full == 0
    assert int(ENOUGH_RUNS) > 1, "nor would it after one run"


@pytest.mark.parametrize(
    ("max_delay_ms", "runs"), [(0, [[0.0], [1.0]]), (5, [[0.0, 1.0]])], ids=["free", "gathering"]
)
@in_virtual_time
async def test_who_finds_an_instance_free_is_tried_whatever_was_measured(
    max_delay_ms: int, runs: list[list[float]]
) -> None:
    run_s = 1.0
    batching = Batching(8, max_delay_ms=max_delay_ms)
    served = served_by(lambda rows: run_s, instances=2, batching=batching)
    await measured(served)
    for instance in served.instances:
        instance.runs.clear()
    run_s = 0.001
    await asyncio.gather(*[served.ask(float(number), timeout_s=0.01) for number in range(2)])
    done = [rows_of_runs(instance) for instance in reversed(served.instances)]
    assert list(itertools.chain.from_iterable(done)) == runs


@pytest.mark.parametrize("max_delay_ms", [0, 5])
@in_virtual_time
async def test_a_model_that_was_slow_and_idle_is_soon_as_good_as_new(max_delay_ms: int) -> None:
    run_s = 1.0
    served = served_by(lambda rows: run_s, batching=Batching(8, max_delay_ms=max_delay_ms))
    await measured(served)
    run_s = 0.001
    load = Load(served, timeout_s=0.05)
    await load.run(100.0, seconds=10.0)
    fates = await load.run(100.0, seconds=5.0)
    await load.end()
    assert set(fates) == {"answered"}


@pytest.mark.parametrize("factor", [0.1, 5.0])
@in_virtual_time
async def test_the_estimate_follows_a_model_that_changes_under_load(factor: float) -> None:
    run_s = 0.01
    served = served_by(lambda rows: run_s)
    load = Load(served, timeout_s=0.4)
    await load.run(500.0, seconds=3.0)
    run_s *= factor
    per_s = 2.0 / run_s
    await load.run(per_s, seconds=4 * MEMORY_S)
    fates = await load.run(per_s, seconds=2.0)
    await load.end()
    assert fates["answered"] >= 0.9 * 2.0 / run_s
    assert fates["expired"] <= 0.1 * fates["refused"]


@in_virtual_time
async def test_a_run_that_hung_costs_nobody_who_comes_after_it_an_answer() -> None:
    run_s = 0.01
    served = served_by(lambda rows: run_s)
    await measured(served)
    run_s = 30.0
    hung = served.ask(1.0)
    await settle()
    run_s = 0.01
    await asyncio.sleep(29.9)
    waiting = [served.ask(float(number), timeout_s=0.5) for number in range(20)]
    for fate in await asyncio.gather(hung, *waiting, return_exceptions=True):
        assert not isinstance(fate, Exception)


# -- batches that hardly pay ---------------------------------------------------------------------


async def sizes_of_last_burst(usual: RunS) -> set[int]:
    """Return how many rows the runs had for the last of many bursts."""
    served = served_by(usual, 4, SHARING)
    for _ in range(30):
        for instance in served.instances:
            instance.runs.clear()
        await asyncio.gather(*[served.ask(float(number)) for number in range(10)])
    return {len(run.inputs["x"]) for each in served.instances for run in each.runs}


@in_virtual_time
async def test_two_who_are_hardly_quicker_together_do_not_wait_for_each_other() -> None:
    assert await sizes_of_last_burst(lambda rows: 0.02 * rows) == {1}
    assert await sizes_of_last_burst(lambda rows: 0.018 + 0.002 * rows) == {1, 2}


@in_virtual_time
async def test_a_line_that_grows_is_served_in_batches_all_the_same() -> None:
    served = served_by(lambda rows: 0.02 * rows, 4, SHARING)
    for _ in range(30):
        await asyncio.gather(*[served.ask(float(number)) for number in range(10)])
    before = served.statistics
    await asyncio.gather(*[served.ask(float(number)) for number in range(60)])
    runs = served.statistics.runs - before.runs
    assert runs < 30
