"""One worker process, as the server sees it: from its start until it is gone."""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import selectors
import sys
import threading
import time
from collections.abc import Callable

from pelton.arena import Arena
from pelton.errors import InvalidRequest, LoadFailed, PeltonError, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process.channel import Message
from pelton.runtimes.process.child import END_S, Child, cause_of_death
from pelton.runtimes.process.records import metadata_of, spec_told, told
from pelton.runtimes.process.replies import failure, outputs_of
from pelton.runtimes.process.values import CannotCarry, Malformed
from pelton.specs import ModelMetadata, ModelSpec

_Running = asyncio.Future[tuple[float, dict[str, Value]]]
logger = logging.getLogger("pelton.worker")


class State(enum.Enum):
    """How far a worker process has come."""

    LOADING = enum.auto()
    READY = enum.auto()
    GONE = enum.auto()


class Worker:
    """One worker process. It works on the event loop that watches it, and is never started again.

    Attributes:
        metadata: what the model says of itself, once it is loaded.
        state: how far it has come.
        trouble: why it ended or is about to, as one sentence, where that is known.
        ready_since_s: when it had loaded the model, on the monotonic clock; infinity until then.
    """

    metadata: ModelMetadata

    def __init__(self, spec: ModelSpec, options: RuntimeOptions, bodies: Arena | None) -> None:
        """Start a process, which takes milliseconds; `load` follows.

        Raises:
            OSError: the system cannot start another one.
        """
        self.state = State.LOADING
        self.trouble = ""
        self.ready_since_s = math.inf
        self._spec = spec
        self._options = options
        self._bodies = bodies
        self._child = Child(spec.name, options, bodies)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[Worker], None] = _nobody_asks
        self._running: _Running | None = None
        self._over: asyncio.Future[None] | None = None
        self._log_ids: tuple[str, ...] = ()
        self._ending: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether it can take a run."""
        return self.state is State.READY

    @property
    def busy(self) -> bool:
        """Whether a run is under way, be it one whose caller has left."""
        return self._running is not None

    @property
    def is_ending(self) -> bool:
        """Whether it was closed, and is not gone yet."""
        return self._ending is not None and self._ending.is_alive()

    def own_bytes(self) -> int | None:
        """Return the memory that is the process's alone; None where that is not known."""
        return None if self.state is State.GONE else self._child.own_bytes()

    def load(self, changed: Callable[[Worker], None]) -> None:
        """Have it load the model.

        Args:
            changed: called with it when it is ready, and when it has ended by itself.
        """
        self._changed = changed
        level = logging.getLogger().getEffectiveLevel()
        orders = [spec_told(self._spec), told(self._options), list(sys.path), level]
        channel = self._child.channel
        try:
            channel.send("load", channel.pack(orders))
        except CannotCarry as error:
            self.trouble = f"the options of model {self._spec.name!r} hold {error}"
            self._child.kill()
        except OSError:
            self._child.kill()

    def wait_loaded(self) -> None:
        """Wait, without an event loop, until it has loaded the model.

        Raises:
            LoadFailed: it did not; the sentence is the worker's.
        """
        with selectors.DefaultSelector() as selector:
            for fd, callback in self._sources():
                selector.register(fd, selectors.EVENT_READ, callback)
            while self.state is State.LOADING:
                for key, _ in selector.select():
                    key.data()
        if self.state is not State.READY:
            raise LoadFailed(self.trouble)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have this event loop watch it from now on."""
        self._loop = loop
        if self.state is not State.GONE:
            for fd, callback in self._sources():
                loop.add_reader(fd, callback)

    async def run(self, run: Run) -> dict[str, Value]:
        """Carry out one run; called only while it is ready, and not busy.

        The frames of big inputs that lie in the memory of request bodies are not copied. Big
        outputs are read-only views of the worker's memory, which keeps them while they are used.

        Raises:
            InvalidRequest: the model refuses the inputs, or they cannot be told to a worker.
            DeadlineExceeded: the deadline was over before the model was run.
            ModelFailed: the model raised anything else, or returned what is no plain data.
            Unavailable: it has died.
        """
        channel = self._child.channel
        deadline_s = None if math.isinf(run.deadline_s) else run.deadline_s
        try:
            packed = channel.pack([deadline_s, dict(run.inputs)], self._bodies)
            self._log_ids = run.log_ids
            channel.send("run", packed)
        except CannotCarry as error:
            raise InvalidRequest(f"model {self._spec.name!r} cannot be given {error}") from None
        except OSError:
            self._on_end()
            raise Unavailable(self.sentence("is not running")) from None
        del packed
        running: _Running = asyncio.get_running_loop().create_future()
        self._running = running
        if run.hot_s:
            self._look_out(running, run.hot_s)
        run.compute_s, outputs = await running
        return outputs

    async def free(self) -> None:
        """Wait until the run is over whose caller has left; called by one at a time."""
        if self._running is not None:
            self._over = asyncio.get_running_loop().create_future()
            await self._over

    def _look_out(self, running: _Running, most_s: float) -> None:
        """Listen to it without giving way to the event loop, for so long at the most."""
        until_s = time.monotonic() + most_s
        while not running.done() and time.monotonic() < until_s:
            self._on_message()

    def kill(self, trouble: str) -> None:
        """End it at once; whoever was to hear of a change hears of this one."""
        if self.state is State.GONE:
            return
        if trouble:
            self.trouble = self.sentence(trouble)
        self._child.kill()
        if self._child.end_fd < 0:
            self._on_end()
        elif self._loop is not None:
            self._loop.remove_reader(self._child.channel.fileno())

    def close(self) -> None:
        """End it; `wait_closed` tells when it is gone. Nobody hears of that as of a change."""
        if self.state is State.GONE:
            return
        # One that runs, or loads, cannot hear that it shall end.
        patience_s = END_S if self.ready and not self.busy else 0.0
        self.state = State.GONE
        self._detach()
        self._fail_run(Unavailable(self.sentence("was closed")))
        # In a thread: the event loop shall not wait, and the interpreter leaves no zombie.
        self._ending = threading.Thread(
            target=self._child.finish, args=(patience_s,), name=f"ending-{self._spec.name}"
        )
        self._ending.start()

    def discard(self) -> None:
        """End it before it was given anything, and wait until it is gone."""
        self.state = State.GONE
        self._child.finish()

    def wait_closed(self) -> None:
        """Wait until it is gone, after `close`; a little more than a second at most."""
        if self._ending is not None:
            self._ending.join()

    def sentence(self, what: str) -> str:
        """Return a sentence of which it is the subject."""
        return f"the worker process of model {self._spec.name!r} {what}"

    # -- what it does ------------------------------------------------------------------------------

    def _sources(self) -> list[tuple[int, Callable[[], None]]]:
        return self._child.sources(self._on_message, self._on_output, self._on_end)

    def _detach(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            for fd, _ in self._sources():
                self._loop.remove_reader(fd)

    def _on_output(self) -> None:
        if self.state is not State.GONE:
            self._child.output.pump(self._log_ids)

    def _on_message(self) -> None:
        if self.state is State.GONE:
            return
        try:
            message = self._child.channel.receive()
            if message is not None:
                # What was printed before the reply belongs to the same request in the log.
                self._child.output.pump(self._log_ids)
                self._hear(message)
        except BlockingIOError:
            return
        except Malformed as error:
            logger.error("the worker of model %s sent %s", self._spec.name, error)
            self.kill("sent a reply that makes no sense")
        except (EOFError, OSError):
            self.kill("")

    def _hear(self, message: Message) -> None:
        if self.state is State.LOADING and message.kind == "ready":
            self.metadata = metadata_of(message.value)
            self.ready_since_s = time.monotonic()
            self.state = State.READY
            self._changed(self)
        elif self.state is State.LOADING and message.kind == "failed":
            self.trouble = f"{message.value!s:.1000}"
        elif self._running is None:
            raise Malformed(f"{message.kind!r:.40} unasked")
        else:
            self._settle_run(message)

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
        """Clear up behind a process that has ended, or that shall."""
        was = self.state
        if was is State.GONE:
            return
        self._detach()
        self.state = State.GONE
        self._child.output.pump(self._log_ids)
        cause = cause_of_death(self._child.finish())
        if not self.trouble:
            while_loading = " while it loaded the model" if was is State.LOADING else ""
            self.trouble = self.sentence(cause) + while_loading
        # Without a time for another try: clients take that for a promise that nothing was done.
        self._fail_run(Unavailable(f"{self.trouble} during the request"))
        self._changed(self)


def _nobody_asks(worker: Worker) -> None:
    pass
