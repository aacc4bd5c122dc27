"""A place where a model runs that was loaded into this process: a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from pelton.clock import Clock
from pelton.engine.guard import guarded
from pelton.engine.workers import Workers
from pelton.messages import Value
from pelton.runtimes.contract import LoadedModel, Run, Stoppable


class ThreadInstance:
    """An `Instance` over a loaded model; several may share one that is `concurrent`.

    A thread cannot be killed: a run that hangs keeps its instance busy until it ends by itself.

    Attributes:
        alive: always True.
        restarts: always 0.
    """

    alive = True
    restarts = 0

    def __init__(
        self,
        loaded: LoadedModel,
        owners: list[ThreadInstance] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Make one instance.

        Args:
            loaded: the model.
            owners: the instances that share it, kept by them; the last that is closed closes it.
            clock: measures how long the model runs.
        """
        self._loaded = loaded
        self._owners = [] if owners is None else owners
        self._owners.append(self)
        self._clock = clock
        self._name = loaded.metadata.name
        self._workers = Workers(1, f"model-{self._name}-{len(self._owners)}")
        self._run_until = loaded.run_until if isinstance(loaded, Stoppable) else None

    async def run(self, run: Run) -> dict[str, Value]:
        """Carry out one run in the thread.

        Raises:
            InvalidRequest: the model itself refuses the inputs.
            ModelFailed: the model raised anything else, which is its `__cause__`.
        """
        return await self._workers.run(self._call, run)

    def _call(self, run: Run) -> dict[str, Value]:
        inputs = run.inputs  # of a batch, they are copied together: here, not on the event loop
        # Measured here, since the way to this thread and back would hide how quick the model is.
        started_s = self._clock()
        if self._run_until is None:
            outputs = guarded(self._name, self._loaded.run, inputs)
        else:
            outputs = guarded(self._name, self._run_until, inputs, run.stop)
        run.compute_s = self._clock() - started_s
        return outputs

    def on_change(self, changed: Callable[[], None]) -> None:
        """Do nothing: a thread is always there."""

    def give_up(self) -> None:
        """Do nothing: a thread cannot be killed."""

    def close(self) -> None:
        """Wait for the run that is under way; the last of those that share a model closes it."""
        self._workers.close()
        self._owners.remove(self)
        if not self._owners:
            self._loaded.close()


def thread_instances(
    loaded: LoadedModel, count: int, clock: Clock = time.perf_counter
) -> list[ThreadInstance]:
    """Make instances that share one loaded model.

    Args:
        loaded: the model; closed with the last of them.
        count: how many runs may be under way at once; 1 unless the model is `concurrent`.
        clock: measures how long the model runs.
    """
    owners: list[ThreadInstance] = []
    return [ThreadInstance(loaded, owners, clock) for _ in range(count)]
