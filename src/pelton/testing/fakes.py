"""Models, instances and clocks that do as they are told, in place of real ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pelton.errors import Unavailable
from pelton.messages import Value
from pelton.runtimes.contract import Run
from pelton.specs import ModelMetadata, TensorSpec


def echo_metadata(
    name: str = "echo", specs: Sequence[TensorSpec] = (TensorSpec("x", "FP32", (-1,)),)
) -> ModelMetadata:
    """Describe a model whose outputs have the names and types of its inputs.

    Args:
        name: the model's name.
        specs: its inputs; by default one, `x`, FP32 of any length.
    """
    return ModelMetadata(name, "1", "fake", inputs=tuple(specs), outputs=tuple(specs))


class EchoRuntime:
    """A loaded model that answers with a copy of its inputs.

    Attributes:
        metadata: as it was given.
        concurrent: as it was given.
        quick: as it was given.
        seen: the inputs of every run, in order.
        closed: whether `close` was called.
    """

    def __init__(
        self, metadata: ModelMetadata | None = None, *, concurrent: bool = True, quick: bool = True
    ) -> None:
        self.metadata = metadata or echo_metadata()
        self.concurrent = concurrent
        self.quick = quick
        self.seen: list[Mapping[str, Value]] = []
        self.closed = False

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Return the inputs; arrays are copied."""
        self.seen.append(inputs)
        return {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in inputs.items()
        }

    def close(self) -> None:
        """Note that the model was closed."""
        self.closed = True


class SlowRuntime(EchoRuntime):
    """An echo that answers only once it may, so that a test decides what happens meanwhile.

    Attributes:
        started: set when a run begins.
        may_finish: the run waits for this event.
    """

    def __init__(
        self,
        may_finish: threading.Event,
        metadata: ModelMetadata | None = None,
        *,
        concurrent: bool = True,
        quick: bool = False,
    ) -> None:
        super().__init__(metadata, concurrent=concurrent, quick=quick)
        self.started = threading.Event()
        self.may_finish = may_finish

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Wait for the event, then echo."""
        self.started.set()
        self.may_finish.wait()
        return super().run(inputs)


class FailingRuntime(EchoRuntime):
    """A model whose runs raise while `error` is set, and echo when it is None.

    Attributes:
        error: what a run raises.
    """

    def __init__(
        self,
        error: BaseException | None = None,
        metadata: ModelMetadata | None = None,
        *,
        concurrent: bool = True,
        quick: bool = True,
    ) -> None:
        super().__init__(metadata, concurrent=concurrent, quick=quick)
        self.error: BaseException | None = error or RuntimeError("this model always fails")

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Raise the error, or echo."""
        if self.error is not None:
            raise self.error
        return super().run(inputs)


class FakeInstance:
    """An `Instance` whose runs end when a test says so, and which dies when it is told to.

    Attributes:
        alive: whether it can take a run.
        restarts: how often it was revived.
        runs: every run that it was given, in order.
        current: the run that is under way, or None.
        given_up: how often a run was given up.
        closed: whether `close` was called.
    """

    def __init__(self, *, alive: bool = True, can_be_killed: bool = True) -> None:
        """Make an instance.

        Args:
            alive: whether it can take a run from the start.
            can_be_killed: whether giving up ends the run, as with a worker process, or does
                nothing, as with a thread.
        """
        self.alive = alive
        self.restarts = 0
        self.runs: list[Run] = []
        self.current: Run | None = None
        self.given_up = 0
        self.closed = False
        self._can_be_killed = can_be_killed
        self._ending: asyncio.Future[dict[str, Value]] | None = None
        self._changed: Callable[[], None] = lambda: None

    async def run(self, run: Run) -> dict[str, Value]:
        """Wait for the end that a test chooses."""
        assert self.alive, "it was given a run while it was not alive"
        assert self.current is None, "it was given a run while another was under way"
        self.runs.append(run)
        self.current = run
        self._ending = asyncio.get_running_loop().create_future()
        try:
            return await self._ending
        finally:
            self.current = self._ending = None

    def finish(self, outputs: dict[str, Value] | None = None) -> None:
        """End the run that is under way.

        Args:
            outputs: what it gives; by default a copy of its inputs.
        """
        assert self.current is not None, "no run is under way"
        if outputs is None:
            outputs = {name: value.copy() for name, value in self.current.inputs.items()}
        self._settled().set_result(outputs)

    def fail(self, error: Exception) -> None:
        """End the run that is under way with an error."""
        self._settled().set_exception(error)

    def die(self) -> None:
        """Be gone, as a worker process that was killed; a run that is under way fails."""
        self.alive = False
        if self._ending is not None and not self._ending.done():
            self.fail(Unavailable("the worker that ran the model died", 1.0))
        self._changed()

    def revive(self) -> None:
        """Be there again, as a worker process that was started once more."""
        self.alive = True
        self.restarts += 1
        self._changed()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Keep what is to be called when `alive` has changed."""
        self._changed = changed

    def give_up(self) -> None:
        """Die, if it can be killed."""
        self.given_up += 1
        if self._can_be_killed:
            self.die()

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _settled(self) -> asyncio.Future[dict[str, Value]]:
        assert self._ending is not None, "no run is under way"
        return self._ending


class FakeClock:
    """A `Clock` that stands still until it is told to go on.

    Attributes:
        now_s: what the clock shows, in seconds.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: the time is negative, which no monotonic clock shows.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self.now_s += seconds
