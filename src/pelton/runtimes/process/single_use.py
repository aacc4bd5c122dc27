"""Gives objects of any class to a model, each in a worker process of its own.

A worker is used once: it takes one pickle, unpickles it, runs the model on what comes out, answers
with data, and is killed. What the object does in there, it does to itself. So that nobody waits
for a model to be loaded, one worker that has loaded it stands ready, and the next one is started
as soon as it is taken.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pelton.errors import DeadlineExceeded, LoadFailed, ModelFailed, Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.runtimes.process.child import cause_of_death
from pelton.runtimes.process.confinement import Bounds
from pelton.runtimes.process.replies import failure, outputs_of
from pelton.runtimes.process.single_use_child import PATIENCE_S, SingleUseChild, WorkerDied
from pelton.runtimes.process.values import Malformed
from pelton.specs import ModelMetadata, ModelSpec

logger = logging.getLogger("pelton.worker")

RETRY_S = 1.0
"""What a caller is told to wait where all workers are busy."""

SOCKETS = "/run"
"""Where the system's own services listen; a namespace without a network still sees these files."""


@dataclass(frozen=True, slots=True)
class SingleUseTerms:
    """How single-use workers are run.

    Attributes:
        bounds: what each may use.
        hidden: files and folders that shall look empty to it, such as those that hold keys.
        time_limit_s: longest that one request may take, whatever its caller allows.
        load_timeout_s: longest that loading the model may take.
        most_at_once: requests that may be under way at once; more are refused.
    """

    bounds: Bounds = field(default_factory=Bounds)
    hidden: tuple[str, ...] = ()
    time_limit_s: float = 30.0
    load_timeout_s: float = 60.0
    most_at_once: int = 2


@dataclass(frozen=True, slots=True)
class _Ready:
    child: SingleUseChild
    metadata: ModelMetadata


class SingleUse:
    """Single-use workers of one version of one model. All methods block, and are for threads."""

    def __init__(
        self, spec: ModelSpec, options: RuntimeOptions, terms: SingleUseTerms | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            spec: the model; it has to be one that takes objects.
            options: how it is run.
            terms: how its workers are run.

        Raises:
            LoadFailed: the model lies in a folder that is to be hidden from it.
        """
        # Absolute, since workers run in a folder of their own.
        self._spec = dataclasses.replace(spec, path=spec.path.absolute())
        self._options = options
        self._terms = terms or SingleUseTerms()
        self._changed = threading.Condition()
        self._ready: list[_Ready] = []
        self._starting = 0
        self._waiting = 0
        self._begun = self._in_vain = 0  # numbers of the last start, and of the last that failed
        self._trouble = ""
        self._loading: set[SingleUseChild] = set()
        self._running: set[SingleUseChild] = set()
        self._closed = False
        needed = (spec.path.resolve(), Path(sys.prefix).resolve())
        if any(_holds(path, needed) for path in self._terms.hidden):
            raise LoadFailed(
                f"model {spec.name!r} cannot take signed objects: it lies in a folder that is "
                "hidden from them; keep the signing keys, the key of TLS and the state in "
                "folders of their own"
            )
        sockets = () if _holds(SOCKETS, needed) else (SOCKETS,)
        self._hidden = tuple(str(Path(each).resolve()) for each in (*self._terms.hidden, *sockets))

    def start(self) -> ModelMetadata:
        """Have the first worker ready.

        Returns:
            What the model says of itself.

        Raises:
            LoadFailed: the model cannot be loaded, or the system cannot shut a process off.
        """
        until_s = time.monotonic() + self._terms.load_timeout_s + PATIENCE_S
        with self._changed:
            self._wait_for_one(until_s)
            return self._ready[0].metadata

    def run(
        self,
        parts: Sequence[memoryview],
        deadline_s: float,
        log_id: str = "",
        stop: Stop | None = None,
    ) -> tuple[float, dict[str, Value]]:
        """Unpickle an object and run the model on it; verified it has to be before.

        Args:
            parts: the pickle, then its out-of-band buffers, if any.
            deadline_s: when nobody waits any more, on the monotonic clock; may be infinity.
            log_id: the request's name in the log.
            stop: asked when the caller has left.

        Returns:
            Seconds of computing, and the outputs by name, which are data.

        Raises:
            InvalidRequest: what came cannot be unpickled, names a class that is not there, is no
                dict by input name, or is refused by the model.
            DeadlineExceeded: the time is over; the worker was killed.
            ModelFailed: the object or the model raised, or ended the worker.
            Unavailable: too many such requests are under way, the model is being closed, or it
                cannot be loaded any more; the object was not touched.
        """
        until_s = min(deadline_s, time.monotonic() + self._terms.time_limit_s)
        try:
            ready = self._take(until_s)
        except LoadFailed as error:
            # The log has told why; that is for the server's people, not for the caller.
            raise Unavailable("no worker for signed objects can be started", RETRY_S) from error
        stop = stop or Stop()
        stop.on_ask(ready.child.end_soon)
        try:
            return self._ask(ready, parts, until_s, log_id)
        finally:
            stop.on_ask(None)
            with self._changed:
                self._running.remove(ready.child)
                self._changed.notify_all()

    def give_up(self) -> None:
        """Have all workers end soon. Requests under way fail; new ones are refused."""
        with self._changed:
            self._closed = True
            for child in self._running | self._loading:
                child.end_soon()
            self._changed.notify_all()

    def close(self) -> None:
        """End all workers as `give_up` does, and wait for that."""
        self.give_up()
        with self._changed:
            self._changed.wait_for(lambda: not (self._starting or self._running), 2 * PATIENCE_S)
            spares, self._ready = self._ready, []
        for spare in spares:
            spare.child.finish()

    def _take(self, until_s: float) -> _Ready:
        """Return a worker that is ready, and have the next one started."""
        if time.monotonic() >= until_s:
            raise self._too_late()
        with self._changed:
            if len(self._running) + self._waiting >= self._terms.most_at_once:
                raise Unavailable("too many signed objects are being worked on", RETRY_S)
            while True:
                self._waiting += 1
                try:
                    self._wait_for_one(until_s)
                finally:
                    self._waiting -= 1
                ready = self._ready.pop()
                self._start_more()
                if ready.child.alive:
                    self._running.add(ready.child)
                    return ready
                ready.child.finish()

    def _wait_for_one(self, until_s: float) -> None:
        """Wait, with the lock held, until a worker is ready.

        One that was being started before may fail for what has been mended meanwhile.
        """
        begun = self._begun
        while True:
            if self._closed:
                raise Unavailable(f"model {self._spec.name!r} is being closed", RETRY_S)
            if self._ready:
                return
            if self._in_vain > begun:
                raise LoadFailed(self._trouble)
            self._start_more()
            if not self._changed.wait(until_s - time.monotonic()):
                raise self._too_late()

    def _start_more(self) -> None:
        """Have one worker for each request that waits, and one to spare."""
        while not self._closed and len(self._ready) + self._starting <= self._waiting:
            self._starting += 1
            self._begun += 1
            name = f"single-use-{self._spec.name}"
            args = (self._begun,)
            threading.Thread(target=self._load, args=args, name=name, daemon=True).start()

    def _load(self, number: int) -> None:
        """Start a worker, in a thread of its own."""
        ready, trouble = None, ""
        try:
            ready = self._loaded()
        except LoadFailed as error:
            trouble = error.message
            logger.log(logging.DEBUG if self._closed else logging.ERROR, "%s", trouble)
        with self._changed:
            self._starting -= 1
            if ready is None:
                self._in_vain = max(self._in_vain, number)
                self._trouble = trouble
            else:
                self._ready.append(ready)
            self._changed.notify_all()

    def _loaded(self) -> _Ready:
        until_s = time.monotonic() + self._terms.load_timeout_s
        try:
            child = SingleUseChild(self._spec, self._options, self._terms.bounds, self._hidden)
        except OSError as error:
            raise LoadFailed(f"no worker process can be started: {error.strerror}") from error
        with self._changed:
            self._loading.add(child)
            if self._closed:
                child.end_soon()
        try:
            return _Ready(child, child.wait_loaded(until_s))
        except LoadFailed:
            child.finish()
            raise
        except WorkerDied:
            cause = cause_of_death(child.finish())
            raise LoadFailed(
                f"the single-use worker of model {self._spec.name!r} {cause} while it loaded "
                "the model"
            ) from None
        finally:
            with self._changed:
                self._loading.discard(child)

    def _ask(
        self, ready: _Ready, parts: Sequence[memoryview], until_s: float, log_id: str
    ) -> tuple[float, dict[str, Value]]:
        message = None
        try:
            message = ready.child.ask(parts, until_s, (log_id,) if log_id else ())
        except TimeoutError:
            raise self._too_late() from None
        except WorkerDied:
            pass  # how, is told below
        except Malformed as error:
            raise self._failed("sent a reply that makes no sense") from error
        finally:
            # Before the answer is used: nobody is left then who could still change it.
            code = ready.child.finish()
        if message is None:
            raise self._failed(cause_of_death(code))
        try:
            if message.kind != "done":
                raise failure(message, self._spec.name)
            return outputs_of(message.value, ready.metadata)
        except Malformed as error:
            raise self._failed("sent a reply that makes no sense") from error

    def _failed(self, how: str) -> ModelFailed:
        return ModelFailed(f"the worker process of this signed object {how}")

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded("the signed object was not answered in the time allowed for it")


def _holds(folder: str, needed: Sequence[Path]) -> bool:
    return any(path.is_relative_to(Path(folder).resolve()) for path in needed)
