"""What a runtime must offer: a loader that turns a `ModelSpec` into a `LoadedModel`.

`pelton.testing.runtime_contract` is the test suite that every runtime passes.

An `Instance` is what the engine sees of it: a place where one run at a time is carried out, by a
thread of the server or by a worker process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pelton.messages import Value
from pelton.specs import ModelMetadata, ModelSpec


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How models are to be run, from the server's settings.

    A model's own `model.toml` may override those that mean something to its runtime, by the same
    name, under `[options]`.

    Attributes:
        device: `cpu`, `cuda:0`, ... or `auto` for the best that is there.
        threads: threads within one operator; 0 lets the framework choose.
        inter_op_threads: threads across operators; 0 lets the framework choose.
        allow_spinning: whether idle threads burn cycles to wake faster.
        graph_optimization: `none`, `basic`, `extended` or `all`.
        deterministic: whether the same inputs must give the same bits: fixed seeds before each
            run, and kernels that do not depend on timing.
    """

    device: str = "cpu"
    threads: int = 0
    inter_op_threads: int = 0
    allow_spinning: bool = False
    graph_optimization: str = "all"
    deterministic: bool = False


class LoadedModel(Protocol):
    """A model in memory, ready to run.

    Attributes:
        metadata: what it says of itself; constant while it is loaded.
        concurrent: whether `run` may be entered by several threads at once.
        quick: whether `run` is bounded and releases the interpreter lock, so that the engine may
            call it on the event loop once it has measured it to be fast. False for user code.
    """

    @property
    def metadata(self) -> ModelMetadata: ...

    @property
    def concurrent(self) -> bool: ...

    @property
    def quick(self) -> bool: ...

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute every output.

        Args:
            inputs: exactly the declared inputs, with checked dtypes and shapes (arrays are
                C-contiguous, possibly read-only, possibly not aligned to their element size);
                for an object model, whatever the caller sent.

        Returns:
            Output name -> array (for an object model, any plain value), in declared order. No
            later run writes to these arrays.

        Raises:
            InvalidRequest: the inputs are wrong in a way that only the model could see.
            Exception: anything else counts as the model's failure, and the model stays usable.
        """
        ...

    def close(self) -> None:
        """Give back memory and devices. Called once, when no run is under way."""
        ...


class Stop:
    """Tells a run that nobody waits for its result any more; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._act: Callable[[], None] | None = None

    @property
    def asked(self) -> bool:
        """Whether the run is of no use any more."""
        return self._asked

    def ask(self) -> None:
        """Have the run end soon, where it can."""
        with self._lock:
            self._asked, act = True, self._act
        if act is not None:
            act()

    def on_ask(self, act: Callable[[], None] | None) -> None:
        """Set what ends the run; called at once if that has been asked for already.

        Args:
            act: quick, and safe to be called from another thread; None once the run is over.
        """
        with self._lock:
            self._act = act
            asked = self._asked
        if asked and act is not None:
            act()


@runtime_checkable
class Stoppable(Protocol):
    """A `LoadedModel` whose runs can be ended before they are done."""

    def run_until(self, inputs: Mapping[str, Value], stop: Stop) -> dict[str, Value]:
        """Compute every output as `LoadedModel.run` does, unless `stop` is asked before.

        Raises:
            Exception: anything at all, once `stop` was asked.
        """
        ...


class Run:
    """One run of a model, for one request or for a batch of them.

    Attributes:
        deadline_s: when nobody waits any more, on the monotonic clock; may be infinity.
        log_ids: the names of its requests in the log, the first one's first.
        hot_s: how long an instance may keep the event loop waiting for the result, seconds, where
            that spares it to be put to sleep and woken; 0 for not at all.
        stop: asked when every caller has left.
        compute_s: set by the instance where it knows it: how long the model itself ran, without
            the way there and back.
    """

    __slots__ = ("_inputs", "compute_s", "deadline_s", "hot_s", "log_ids", "stop")

    def __init__(
        self,
        inputs: Mapping[str, Value] | Callable[[], Mapping[str, Value]],
        deadline_s: float,
        log_ids: tuple[str, ...] = (),
        hot_s: float = 0.0,
    ) -> None:
        """Make a run.

        Args:
            inputs: checked inputs, or what puts them together, in whichever thread asks first.
            deadline_s: see the class.
            log_ids: see the class.
            hot_s: see the class.
        """
        self._inputs = inputs
        self.deadline_s = deadline_s
        self.log_ids = log_ids
        self.hot_s = hot_s
        self.stop = Stop()
        self.compute_s = 0.0

    @property
    def inputs(self) -> Mapping[str, Value]:
        """Checked inputs, stacked along the first axis if there are several requests."""
        if callable(self._inputs):
            self._inputs = self._inputs()
        return self._inputs


class Instance(Protocol):
    """A place where a model runs, one run at a time. All methods are called on the event loop."""

    @property
    def alive(self) -> bool:
        """Whether it can take a run: False while a worker process is gone or being started."""
        ...

    async def run(self, run: Run) -> dict[str, Value]:
        """Carry out one run; called only while `alive` and while no other run is under way.

        A caller that is cancelled leaves the run to itself: the instance stays busy until it ends.

        Returns:
            Every output by name; see `LoadedModel.run`.

        Raises:
            InvalidRequest: the model itself refuses the inputs.
            ModelFailed: the model raised anything else; `__cause__` is it, where it is known.
            Unavailable: the worker died; it is started again by itself.
        """
        ...

    def on_change(self, changed: Callable[[], None]) -> None:
        """Set what is called on the event loop whenever `alive` has changed."""
        ...

    def give_up(self) -> None:
        """End a run that hangs, where that can be done: a worker process is killed."""
        ...

    def close(self) -> None:
        """End the run that is under way, if any, and give everything back. Called once."""
        ...


Loader = Callable[[ModelSpec, RuntimeOptions], LoadedModel]
"""Loads one model into this process.

Raises:
    LoadFailed: one sentence that says what is wrong with the file and what would cure it.
"""

LoaderUntil = Callable[[ModelSpec, RuntimeOptions, Stop], LoadedModel]
"""Loads as a `Loader` does. Once it is asked to stop, nobody waits for it any more, and whatever it
holds that other loads may wait for is let go at once; the load itself may go on in vain.

Raises:
    LoadFailed: as a `Loader`; or it was asked to stop.
"""
