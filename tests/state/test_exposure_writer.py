"""Exposures are written in batches, off the way of requests, and never at their cost."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from pelton.errors import PeltonError, Unavailable
from pelton.records import Exposure
from pelton.state.exposure_writer import BATCH_ROWS, ExposureWriter
from pelton.state.state import State


def seen(number: int) -> Exposure:
    return Exposure("r", f"u{number}", True, "1", 0.5, True, False, float(number), salt="s")


class Store:
    """Keeps batches; waits for permission where it is told to."""

    def __init__(self) -> None:
        self.rows: list[Exposure] = []
        self.batches: list[int] = []
        self.entered: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.go_on = threading.Event()
        self.go_on.set()
        self.failures: list[PeltonError] = []

    def insert(self, batch: Sequence[Exposure]) -> None:
        self.entered.put(len(batch))
        assert self.go_on.wait(30)
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(len(batch))
        self.rows.extend(batch)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def writer(store: Store) -> Iterator[Callable[..., ExposureWriter]]:
    made: list[ExposureWriter] = []

    def start(**options) -> ExposureWriter:
        made.append(ExposureWriter(store.insert, **{"gather_s": 0.0, **options}))
        return made[-1]

    yield start
    store.go_on.set()
    for each in made:
        each.close()


def test_what_is_put_is_written_in_its_order(store: Store, writer) -> None:
    exposures = writer()
    for number in range(2500):
        exposures.put(seen(number))
    exposures.close()
    assert store.rows == [seen(number) for number in range(2500)]
    assert max(store.batches) <= BATCH_ROWS
    assert (exposures.dropped, exposures.waiting) == (0, 0)


def test_one_that_comes_alone_is_written_without_another(store: Store, writer) -> None:
    exposures = writer()
    for number in range(3):  # each wakes the thread anew
        exposures.put(seen(number))
        assert store.entered.get(timeout=30) == 1


def test_the_thread_waits_for_more_to_come(store: Store, writer) -> None:
    exposures = writer(gather_s=3600.0)
    for number in range(10):
        exposures.put(seen(number))
    assert store.entered.empty()
    exposures.close()  # ends the waiting
    assert store.batches == [10]


def test_what_does_not_fit_is_dropped_and_counted(store: Store, writer) -> None:
    store.go_on.clear()
    exposures = writer(max_waiting=5)
    exposures.put(seen(0))
    assert store.entered.get(timeout=30) == 1  # the thread is held with the first in hand
    for number in range(1, 10):
        exposures.put(seen(number))
    assert (exposures.waiting, exposures.dropped) == (5, 5)
    store.go_on.set()
    exposures.close()
    assert store.rows == [seen(number) for number in range(5)]
    assert exposures.dropped == 5


def test_while_the_database_is_away_exposures_wait(store: Store, writer) -> None:
    store.failures = [Unavailable("away", retry_after_s=0.001)] * 3
    exposures = writer()
    exposures.put(seen(0))
    assert [store.entered.get(timeout=30) for _ in range(4)] == [1, 1, 1, 1]
    exposures.close()
    assert (store.rows, exposures.dropped) == ([seen(0)], 0)


def test_a_database_that_is_away_at_the_end_is_not_waited_for(store: Store, writer, caplog) -> None:
    store.failures = [Unavailable("away", retry_after_s=3600.0)] * 3
    exposures = writer()
    exposures.put(seen(0))
    store.entered.get(timeout=30)
    exposures.put(seen(1))
    exposures.close()
    assert (store.rows, exposures.dropped) == ([], 2)
    assert "2 exposures were not kept: the server ends" in caplog.text


def test_a_batch_that_cannot_be_kept_does_not_hold_up_the_next(
    store: Store, writer, caplog
) -> None:
    store.failures = [PeltonError("refused")]
    exposures = writer()
    exposures.put(seen(0))
    store.entered.get(timeout=30)
    exposures.put(seen(1))
    exposures.close()
    assert (store.rows, exposures.dropped) == ([seen(1)], 1)
    assert "1 exposures were not kept: refused" in caplog.text


def test_the_log_tells_of_what_was_dropped_and_seldom(caplog) -> None:
    entered: queue.SimpleQueue[None] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[PeltonError | None] = queue.SimpleQueue()

    def insert(_batch: Sequence[Exposure]) -> None:
        entered.put(None)
        failure = outcomes.get(timeout=30)
        if failure is not None:
            raise failure

    def drop(number: int, then: PeltonError | None) -> None:
        """Put so many more than fit while a batch is being written, and then end the writing."""
        entered.get(timeout=30)
        for _ in range(number):
            exposures.put(seen(0))
        outcomes.put(then)

    busy = Unavailable("busy", retry_after_s=0.001)
    exposures = ExposureWriter(insert, max_waiting=1, gather_s=0.0)
    exposures.put(seen(0))
    drop(3, busy)
    drop(0, busy)  # the line of the one before is complete
    assert exposures.counts() == {"written": 0, "waiting": 1, "dropped": 3}
    drop(4, busy)
    drop(5, None)
    exposures.close()
    assert caplog.messages == [
        "3 exposures were not kept: busy",
        "9 exposures were not kept: busy",
    ]
    assert exposures.counts() == {"written": 1, "waiting": 0, "dropped": 12}


def test_a_line_that_is_full_though_the_database_is_well_is_told(
    store: Store, writer, caplog
) -> None:
    store.go_on.clear()
    exposures = writer(max_waiting=1)
    exposures.put(seen(0))
    store.entered.get(timeout=30)
    exposures.put(seen(1))
    store.go_on.set()
    exposures.close()
    assert caplog.messages == [
        "1 exposures were not kept: they come faster than they can be written"
    ]


def test_after_the_end_everything_is_dropped(store: Store, writer) -> None:
    exposures = writer()
    exposures.close()
    exposures.put(seen(0))
    assert (store.rows, exposures.dropped) == ([], 1)


def test_nothing_is_lost_between_threads(store: Store, writer) -> None:
    """Each put falls where it will between the thread's looks; none is left lying."""
    exposures = writer()

    def put(thread: int) -> None:
        for number in range(2000):
            exposures.put(seen(thread * 2000 + number))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = 0
    while total < 8000:  # without a close, which would gather what was left
        total += store.entered.get(timeout=30)
    exposures.close()
    assert sorted(row.at_s for row in store.rows) == [float(number) for number in range(8000)]


def test_it_writes_into_the_store(state: State) -> None:
    exposures = ExposureWriter(state.exposures.add, gather_s=0.0)
    for number in range(10):
        exposures.put(seen(number % 5))
    exposures.close()
    assert state.exposures.list("r") == [seen(number) for number in range(5)]
