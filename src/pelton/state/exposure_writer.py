"""Takes exposures from requests at once and writes them down later, in batches."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pelton.errors import PeltonError, Unavailable
from pelton.records import Exposure

Insert = Callable[[Sequence[Exposure]], None]
"""Keeps exposures; raises `Unavailable` when it cannot just now."""

MAX_WAITING = 100_000
BATCH_ROWS = 1000
GATHER_S = 0.5
RETRY_S = 1.0

TELL_S = 60.0
"""Between two lines of the log about what was dropped."""

TOO_FAST = "they come faster than they can be written"

logger = logging.getLogger("pelton.state")


class ExposureWriter:
    """A bounded line of exposures and the one thread that writes them.

    Exposures are a sample of what happened, and no request shall wait for them or fail with them:
    what does not fit into the line is dropped and counted, and the log tells of it now and then.
    While the database is away, the line fills.
    """

    def __init__(
        self, insert: Insert, max_waiting: int = MAX_WAITING, gather_s: float = GATHER_S
    ) -> None:
        """Start the thread.

        Args:
            insert: keeps a batch, such as `ExposureStore.add`.
            max_waiting: how many exposures may wait.
            gather_s: how long the thread waits after the first exposure for more to come, seconds.
        """
        self._insert = insert
        self._max_waiting = max_waiting
        self._gather_s = gather_s
        self._waiting: deque[Exposure] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._closing = threading.Event()
        self._refused = 0
        self._lost = 0
        self._written = 0
        self._reason = TOO_FAST
        self._told = 0  # how many of the dropped ones the log has told of
        self._next_tell_s = 0.0
        self._thread = threading.Thread(target=self._run, name="pelton-exposures", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many exposures were not kept, since the start."""
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """How many exposures wait to be written."""
        return len(self._waiting)

    def counts(self) -> dict[str, int]:
        """Return how many were written and dropped since the start, and how many wait."""
        return {"written": self._written, "waiting": self.waiting, "dropped": self.dropped}

    def put(self, exposure: Exposure) -> None:
        """Take an exposure; returns at once and never raises.

        To be called by one thread, usually that of the event loop, for `dropped` to be exact.
        """
        if len(self._waiting) >= self._max_waiting or self._closing.is_set():
            self._refused += 1
            return
        self._waiting.append(exposure)
        if self._asleep:
            self._asleep = False
            self._wake.put(None)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and end the thread; what comes later is dropped.

        Args:
            timeout_s: how long to wait for it, seconds.
        """
        self._closing.set()
        self._wake.put(None)
        self._thread.join(timeout_s)
        self._tell()
        self._lost += len(self._waiting)
        self._reason = "the server ends"
        self._tell()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._sleep_until_put()
            self._closing.wait(self._gather_s)
            self._write_all()
        self._write_all()

    def _sleep_until_put(self) -> None:
        # Asleep first, then the look: whoever puts after the look sees that it has to wake us.
        self._asleep = True
        if not self._waiting:
            self._wake.get()
        self._asleep = False

    def _write_all(self) -> None:
        while self._waiting:
            # Only this thread takes from the left, so these rows stay until they are written.
            batch = [self._waiting[i] for i in range(min(BATCH_ROWS, len(self._waiting)))]
            if not self._write(batch):
                return
            for _ in batch:
                self._waiting.popleft()

    def _write(self, batch: Sequence[Exposure]) -> bool:
        """Write a batch; return whether it is done with."""
        try:
            self._insert(batch)
        except Unavailable as error:
            self._reason = error.message
            self._tell_seldom()
            self._closing.wait(error.retry_after_s or RETRY_S)
            return False
        except PeltonError as error:
            self._lost += len(batch)
            self._reason = error.message
        else:
            self._written += len(batch)
            if self._reason != TOO_FAST:
                self._tell()
                self._reason = TOO_FAST
        self._tell_seldom()
        return True

    def _tell_seldom(self) -> None:
        if time.monotonic() >= self._next_tell_s:
            self._tell()

    def _tell(self) -> None:
        """Log how many were dropped since the last time, if any were."""
        dropped = self.dropped
        rows, self._told = dropped - self._told, dropped
        if rows:
            self._next_tell_s = time.monotonic() + TELL_S
            logger.warning("%d exposures were not kept: %s", rows, self._reason)
