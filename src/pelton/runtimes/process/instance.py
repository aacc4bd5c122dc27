"""A model in a worker process, as the engine sees it: an `Instance` that comes back to life."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import selectors
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pelton.arena import Arena
from pelton.errors import InvalidRequest, LoadFailed, PeltonError, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process.backoff import Backoff
from pelton.runtimes.process.channel import Message
from pelton.runtimes.process.child import END_S, Child, cause_of_death
from pelton.runtimes.process.records import metadata_of, spec_told, told
from pelton.runtimes.process.replies import failure, outputs_of
from pelton.runtimes.process.values import CannotCarry, Malformed
from pelton.specs import ModelMetadata, ModelSpec

T = TypeVar("T")
_Running = asyncio.Future[tuple[float, dict[str, Value]]]
logger = logging.getLogger("pelton.worker")


class _State(enum.Enum):
    DOWN = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    CLOSED = enum.auto()


class ProcessInstance:
    """One worker process, started again whenever it dies.

    It works on the event loop that first uses it; until then `start_instances` watches it.

    Attributes:
        metadata: what the model says of itself.
        restarts: how often the worker was started again and loaded the model.
    """

    metadata: ModelMetadata

    def __init__(self, spec: ModelSpec, options: RuntimeOptions, bodies: Arena | None) -> None:
        self.restarts = 0
        self._spec = spec
        self._options = options
        self._bodies = bodies
        self._state = _State.DOWN
        self._child: Child | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = _nobody_asks
        self._running: _Running | None = None
        self._over: asyncio.Future[None] | None = None
        self._log_ids: tuple[str, ...] = ()
        self._trouble = ""  # why the worker that is about to end does, where that is known
        self._backoff = Backoff()
        self._ready_since_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._starting: threading.Thread | None = None
        self._ending: threading.Thread | None = None

    # -- what the engine calls --------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it can take a run; see `Instance`."""
        return self._state is _State.READY

    def on_change(self, changed: Callable[[], None]) -> None:
        """Set what is called on the event loop whenever `alive` has changed."""
        self._changed = changed
        with contextlib.suppress(RuntimeError):  # no event loop runs yet
            self._attach(asyncio.get_running_loop())

    async def run(self, run: Run) -> dict[str, Value]:
        """Carry out one run in the worker; see `Instance`.

        The frames of big inputs that lie in the memory of request bodies are not copied. Big
        outputs are read-only views of the worker's memory, which keeps them while they are used.

        Raises:
            InvalidRequest: the model refuses the inputs, or they cannot be told to a worker.
            DeadlineExceeded: the deadline was over before the model was run.
            ModelFailed: the model raised anything else, or returned what is no plain data.
            Unavailable: the worker died; it is started again by itself.
        """
        loop = asyncio.get_running_loop()
        self._attach(loop)
        if self._running is not None:  # its caller was cancelled
            self._over = loop.create_future()
            await self._over
        child = self._child
        if child is None or self._state is not _State.READY:
            raise self._unavailable("is not running")
        deadline_s = None if math.isinf(run.deadline_s) else run.deadline_s
        try:
            packed = child.channel.pack([deadline_s, dict(run.inputs)], self._bodies)
            self._log_ids = run.log_ids
            child.channel.send("run", packed)
        except CannotCarry as error:
            raise InvalidRequest(f"model {self._spec.name!r} cannot be given {error}") from None
        except OSError:
            self._on_end()
            raise self._unavailable("is not running") from None
        del packed
        running: _Running = loop.create_future()
        self._running = running
        if run.hot_s:
            self._look_out(running, run.hot_s)
        run.compute_s, outputs = await running
        return outputs

    def _look_out(self, running: _Running, most_s: float) -> None:
        """Listen to the worker without giving way to the event loop, for so long at the most."""
        until_s = time.monotonic() + most_s
        while not running.done() and time.monotonic() < until_s:
            self._on_message()

    def give_up(self) -> None:
        """Kill the worker, which is started again."""
        self._kill("did not answer in time and was ended")

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
        child = self._child
        # A worker that runs cannot hear that it shall end.
        can_hear = self._state is _State.READY and self._running is None
        self._state = _State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        self._child = None
        if child is None:
            return
        self._detach(child)
        self._fail_run(self._unavailable("was closed"))
        # In a thread: the event loop shall not wait, and the interpreter leaves no zombie.
        patience_s = END_S if can_hear else 0.0
        self._ending = threading.Thread(
            target=child.finish, args=(patience_s,), name=f"ending-{self._spec.name}"
        )
        self._ending.start()

    def wait_closed(self) -> None:
        """Wait until the worker is gone, after `close`; a little more than a second at most."""
        for thread in (self._starting, self._ending):
            if thread is not None:
                thread.join()

    def watch(self) -> None:
        """Have the running event loop watch the worker, also before its first run."""
        self._attach(asyncio.get_running_loop())

    # -- the life of the worker -------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker and have it load the model.

        Raises:
            LoadFailed: the worker cannot be started at all.
        """
        try:
            self._adopt(Child(self._spec.name, self._options, self._bodies))
        except OSError as error:
            raise LoadFailed(self._no_process(error)) from error

    def _adopt(self, child: Child) -> None:
        level = logging.getLogger().getEffectiveLevel()
        orders = [spec_told(self._spec), told(self._options), list(sys.path), level]
        self._trouble = ""
        self._child, self._state = child, _State.LOADING
        try:
            child.channel.send("load", child.channel.pack(orders))
        except CannotCarry as error:
            self._trouble = f"the options of model {self._spec.name!r} hold {error}"
            child.kill()
        except OSError:
            child.kill()

    def _no_process(self, error: OSError) -> str:
        return f"no worker process can be started for {self._spec.name!r}: {error.strerror}"

    def wait_loaded(self) -> None:
        """Wait, without an event loop, until the worker has loaded the model.

        Raises:
            LoadFailed: it did not; the sentence is the worker's.
        """
        child = self._child
        assert child is not None, "start comes first"
        with selectors.DefaultSelector() as selector:
            for fd, callback in self._sources(child):
                selector.register(fd, selectors.EVENT_READ, callback)
            while self._state is _State.LOADING:
                for key, _ in selector.select():
                    key.data()
                    if self._child is None:
                        break
        if self._state is not _State.READY:
            raise LoadFailed(self._trouble)

    def _sources(self, child: Child) -> list[tuple[int, Callable[[], None]]]:
        return child.sources(self._on_message, self._on_output, self._on_end)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on this event loop watches the worker, if it does not yet."""
        if self._loop is loop:
            return
        self._loop = loop
        if self._child is not None:
            self._watch(self._child, loop)
        elif self._state is _State.DOWN:
            self._restart()

    def _watch(self, child: Child, loop: asyncio.AbstractEventLoop) -> None:
        for fd, callback in self._sources(child):
            loop.add_reader(fd, callback)

    def _detach(self, child: Child) -> None:
        if self._loop is not None and not self._loop.is_closed():
            for fd, _ in self._sources(child):
                self._loop.remove_reader(fd)

    def _restart(self) -> None:
        # In a thread: starting a process takes milliseconds, which the event loop has not.
        assert self._loop is not None
        self._starting = threading.Thread(target=self._spawn, args=(self._loop,), daemon=True)
        self._starting.start()

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            child = Child(self._spec.name, self._options, self._bodies)
        except OSError as error:
            _tell(loop, self._start_later, self._no_process(error))
            return
        if self._state is _State.CLOSED or not _tell(loop, self._spawned, child):
            child.finish()

    def _spawned(self, child: Child) -> None:
        if self._state is _State.CLOSED or self._loop is None:
            child.finish()
        else:
            self._adopt(child)
            self._watch(child, self._loop)

    def _start_later(self, why: str) -> None:
        delay_s = self._backoff.take_s()
        logger.warning("%s; starting again in %.1f s", why, delay_s)
        if self._loop is not None and self._state is not _State.CLOSED:
            self._timer = self._loop.call_later(delay_s, self._restart)

    def _kill(self, trouble: str) -> None:
        """End the worker; `_on_end` follows."""
        if (child := self._child) is None:
            return
        if trouble:
            self._trouble = self._sentence(trouble)
        child.kill()
        if child.end_fd < 0:
            self._on_end()
        elif self._loop is not None:
            self._loop.remove_reader(child.channel.fileno())

    # -- what the worker does ---------------------------------------------------------------------

    def _on_output(self) -> None:
        if self._child is not None:
            self._child.output.pump(self._log_ids)

    def _on_message(self) -> None:
        child = self._child
        if child is None:
            return
        try:
            message = child.channel.receive()
            if message is not None:
                # What was printed before the reply belongs to the same request in the log.
                child.output.pump(self._log_ids)
                self._hear(message)
        except BlockingIOError:
            return
        except Malformed as error:
            logger.error("the worker of model %s sent %s", self._spec.name, error)
            self._kill("sent a reply that makes no sense")
        except (EOFError, OSError):
            self._kill("")

    def _hear(self, message: Message) -> None:
        if self._state is _State.LOADING and message.kind == "ready":
            self._become_ready(metadata_of(message.value))
        elif self._state is _State.LOADING and message.kind == "failed":
            self._trouble = f"{message.value!s:.1000}"
        elif self._running is None:
            raise Malformed(f"{message.kind!r:.40} unasked")
        else:
            self._settle_run(message)

    def _become_ready(self, metadata: ModelMetadata) -> None:
        if self._ready_since_s != math.inf:
            self.restarts += 1
            logger.info("the worker of model %s runs again", self._spec.name)
        else:
            self.metadata = metadata
        self._ready_since_s = time.monotonic()
        self._state = _State.READY
        self._changed()

    def _settle_run(self, message: Message) -> None:
        if message.kind != "done":
            self._fail_run(failure(message, self._spec.name))
            return
        result = outputs_of(message.value, self.metadata)
        running = self._end_run()
        if running is not None and not running.done():
            running.set_result(result)

    def _fail_run(self, error: PeltonError) -> None:
        running = self._end_run()
        if running is not None and not running.done():
            running.set_exception(error)

    def _end_run(self) -> _Running | None:
        running, self._running, self._log_ids = self._running, None, ()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        return running

    def _on_end(self) -> None:
        """Clear up behind a worker that has ended, or that shall."""
        child, was = self._child, self._state
        if child is None:
            return
        self._detach(child)
        self._child, self._state = None, _State.DOWN
        child.output.pump(self._log_ids)
        cause = cause_of_death(child.finish())
        refused = self._trouble
        self._trouble = refused or self._sentence(cause)
        if was is _State.LOADING and self._ready_since_s == math.inf:
            self._trouble += "" if refused else " while it loaded the model"
            return  # `wait_loaded` tells
        self._backoff.died(time.monotonic() - self._ready_since_s)
        why = self._trouble
        self._start_later(why)
        # Without a time for another try: clients take that for a promise that nothing was done.
        self._fail_run(Unavailable(f"{why} during the request"))
        if was is _State.READY:
            self._changed()

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(self._sentence(what), self._backoff.delay_s)

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
