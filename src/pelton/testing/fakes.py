"""Models and clocks that do as they are told, in place of real ones."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from pelton.messages import Value
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
