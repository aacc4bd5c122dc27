"""A model in a worker process, as the engine sees it: an `Instance` that comes back to life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pelton.arena import Arena
from pelton.errors import LoadFailed, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process.backoff import Backoff
from pelton.runtimes.process.child import END_S
from pelton.runtimes.process.growth import LOOK_S, Growth
from pelton.runtimes.process.one_worker import Worker
from pelton.specs import ModelMetadata, ModelSpec

T = TypeVar("T")
logger = logging.getLogger("pelton.worker")


class ProcessInstance:
    """One worker process, started again whenever it dies.

    One that takes more memory than it may is replaced: another is started and loaded beside it, and
    takes its place between two runs. So nobody waits for that, and nobody is refused.

    It works on the event loop that first uses it; until then `start_instances` watches it.

    Attributes:
        metadata: what the model says of itself.
        restarts: how often a worker was started again and loaded the model.
    """

    metadata: ModelMetadata

    def __init__(
        self, spec: ModelSpec, options: RuntimeOptions, bodies: Arena | None, most_bytes: int = 0
    ) -> None:
        self.restarts = 0
        self._spec = spec
        self._options = options
        self._bodies = bodies
        self._worker: Worker | None = None  # has loaded the model, and carries out the runs
        self._coming: Worker | None = None  # loads it, or waits for the other one's last run
        self._leaving: list[Worker] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = _nobody_asks
        self._loaded_once = False
        self._closed = False
        self._backoff = Backoff()
        self._growth = Growth(spec.name, most_bytes)
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._starting: threading.Thread | None = None
        self._is_due = False  # whether another worker is being started, or will be

    # -- what the engine calls --------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it can take a run; see `Instance`."""
        return self._worker is not None

    @property
    def own_bytes(self) -> int | None:
        """Memory that its worker has for itself; None while there is none, or it is not known."""
        return None if self._worker is None else self._worker.own_bytes()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Set what is called on the event loop whenever `alive` has changed."""
        self._changed = changed
        with contextlib.suppress(RuntimeError):  # no event loop runs yet
            self._attach(asyncio.get_running_loop())

    async def run(self, run: Run) -> dict[str, Value]:
        """Carry out one run in the worker; see `Instance` and `Worker.run`.

        Raises:
            InvalidRequest: the model refuses the inputs, or they cannot be told to a worker.
            DeadlineExceeded: the deadline was over before the model was run.
            ModelFailed: the model raised anything else, or returned what is no plain data.
            Unavailable: the worker died; it is started again by itself.
        """
        self._attach(asyncio.get_running_loop())
        worker = self._worker
        if worker is not None and worker.busy:  # with a run whose caller was cancelled
            await worker.free()
        if self._coming is not None:
            self._take_over()
        worker = self._worker
        if worker is None:
            raise Unavailable(self._sentence("is not running"), self._backoff.delay_s)
        try:
            return await worker.run(run)
        finally:
            if self._coming is not None:
                self._take_over()

    def give_up(self) -> None:
        """Kill the worker, which is started again."""
        worker = self._worker or self._coming
        if worker is not None:
            worker.kill("did not answer in time and was ended")

    def close(self) -> None:
        """End the worker; `wait_closed` tells when it is gone. Called once.

        In another thread than the one of its event loop, it returns when the worker is gone.
        """
        loop = self._loop
        if loop is None or not loop.is_running() or _runs_here(loop):
            self._close()
            return
        closed = threading.Event()
        if _tell(loop, self._close_and_say, closed):
            closed.wait(END_S)
        self.wait_closed()

    def _close_and_say(self, closed: threading.Event) -> None:
        self._close()
        closed.set()

    def _close(self) -> None:
        self._closed = True
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        self._leaving += [one for one in (self._worker, self._coming) if one is not None]
        self._worker = self._coming = None
        for worker in self._leaving:
            worker.close()

    def wait_closed(self) -> None:
        """Wait until the worker is gone, after `close`; a little more than a second at most."""
        if self._starting is not None:
            self._starting.join()
        for worker in self._leaving:
            worker.wait_closed()

    def watch(self) -> None:
        """Have the running event loop watch the worker, also before its first run."""
        self._attach(asyncio.get_running_loop())

    # -- its workers ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker and have it load the model.

        Raises:
            LoadFailed: the worker cannot be started at all.
        """
        try:
            self._coming = Worker(self._spec, self._options, self._bodies)
        except OSError as error:
            raise LoadFailed(self._no_process(error)) from error
        self._coming.load(self._on_change)

    def wait_loaded(self) -> None:
        """Wait, without an event loop, until the worker has loaded the model.

        Raises:
            LoadFailed: it did not; the sentence is the worker's.
        """
        coming = self._coming
        assert coming is not None, "start comes first"
        coming.wait_loaded()

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on this event loop watches the worker, if it does not yet."""
        if self._loop is loop:
            return
        self._loop = loop
        workers = [worker for worker in (self._worker, self._coming) if worker is not None]
        for worker in workers:
            worker.watch(loop)
        if not workers and not self._closed:
            self._start_another()
        if self._growth.bounded:
            self._look()

    @property
    def _another_comes(self) -> bool:
        return self._coming is not None or self._is_due

    def _start_another(self) -> None:
        # In a thread: starting a process takes milliseconds, which the event loop has not.
        assert self._loop is not None
        self._is_due = True
        self._starting = threading.Thread(target=self._spawn, args=(self._loop,), daemon=True)
        self._starting.start()

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            worker = Worker(self._spec, self._options, self._bodies)
        except OSError as error:
            _tell(loop, self._missed, self._no_process(error))
            return
        if self._closed or not _tell(loop, self._spawned, worker):
            worker.discard()

    def _spawned(self, worker: Worker) -> None:
        self._is_due = False
        if self._closed or self._loop is None:
            worker.discard()
            return
        self._coming = worker
        worker.load(self._on_change)
        worker.watch(self._loop)

    def _on_change(self, worker: Worker) -> None:
        """Hear that a worker has loaded the model, or that it has ended by itself."""
        if worker.ready:
            self._take_over()
        elif worker is self._coming:
            self._coming = None
            if self._loaded_once:  # else `wait_loaded` tells
                self._missed(worker.trouble)
        elif worker is self._worker:
            self._worker = None
            self._backoff.died(time.monotonic() - worker.ready_since_s)
            if self._another_comes:
                logger.warning("%s; another is on its way", worker.trouble)
            else:
                self._missed(worker.trouble)
            self._changed()
            self._take_over()

    def _take_over(self) -> None:
        """Have the worker that was loaded beside carry out the runs, unless the other is at one."""
        before, coming = self._worker, self._coming
        if coming is None or not coming.ready or (before is not None and before.busy):
            return
        self._worker, self._coming = coming, None
        self._growth.begin(coming.own_bytes())
        if self._loaded_once:
            self.restarts += 1
            how = "runs again" if before is None else "was replaced by another"
            logger.info("the worker of model %s %s", self._spec.name, how)
        else:
            self.metadata = coming.metadata
            self._loaded_once = True
        if before is None:
            self._changed()
        else:
            before.close()
            self._leaving = [*(one for one in self._leaving if one.is_ending), before]

    def _missed(self, why: str) -> None:
        """Try again later to have a worker, after one that ended or could not be started."""
        self._is_due = True
        delay_s = self._backoff.take_s()
        logger.warning("%s; starting again in %.1f s", why, delay_s)
        if self._loop is not None and not self._closed:
            self._timer = self._loop.call_later(delay_s, self._start_another)

    def _look(self) -> None:
        """See whether the worker has grown too large, every now and then."""
        assert self._loop is not None
        self._looking = self._loop.call_later(LOOK_S, self._look)
        if not self._another_comes and self._growth.is_too_large(self.own_bytes):
            self._start_another()

    def _no_process(self, error: OSError) -> str:
        return f"no worker process can be started for {self._spec.name!r}: {error.strerror}"

    def _sentence(self, what: str) -> str:
        return f"the worker process of model {self._spec.name!r} {what}"


def _nobody_asks() -> None:
    pass


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[[T], None], what: T) -> bool:
    """Call back on the event loop, and return whether there still is one."""
    try:
        loop.call_soon_threadsafe(told, what)
    except RuntimeError:
        return False
    return True
