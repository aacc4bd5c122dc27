"""One loaded model with the threads that run it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from pelton.clock import Clock
from pelton.engine.placement import SAMPLES, Placement
from pelton.engine.workers import Workers
from pelton.errors import ModelFailed, PeltonError
from pelton.messages import Timing, Value
from pelton.specs import ModelMetadata
from pelton.tensors import DATATYPES

logger = logging.getLogger("pelton.engine")

WARM_UP_ELEMENTS = 1 << 20
"""Inputs with more elements than this are not made up for a warm-up run."""


class Runnable(Protocol):
    """What the engine needs of a loaded model; every runtime's `LoadedModel` is one."""

    @property
    def metadata(self) -> ModelMetadata: ...  # noqa: D102
    @property
    def concurrent(self) -> bool: ...  # noqa: D102
    @property
    def quick(self) -> bool: ...  # noqa: D102
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Model:
    """Runs one model: on the event loop where that is quicker, else in its own threads.

    A model that is not `concurrent` has one thread, so its requests run one at a time and in
    the order in which they came.
    """

    def __init__(self, loaded: Runnable, clock: Clock) -> None:
        self.metadata = loaded.metadata
        self._loaded = loaded
        self._clock = clock
        self._placement = Placement()
        self._may_run_on_loop = loaded.quick and loaded.concurrent
        threads = usable_cores() if loaded.concurrent else 1
        self._workers = Workers(threads, f"model-{self.metadata.name}")

    async def run(self, inputs: Mapping[str, Value]) -> tuple[dict[str, Value], Timing]:
        """Run the model once.

        Args:
            inputs: checked inputs.

        Returns:
            Every output by name, and where the time went.

        Raises:
            InvalidRequest: the model itself refuses the inputs.
            ModelFailed: the model raised anything else, which is its `__cause__`.
        """
        arrived_s = self._clock()
        if not self._may_run_on_loop:
            return await self._workers.run(self._call, inputs, arrived_s)
        input_bytes = 0
        for value in inputs.values():
            input_bytes += value.nbytes
        if self._placement.on_loop(input_bytes):
            outputs, timing = self._call(inputs, arrived_s)
        else:
            outputs, timing = await self._workers.run(self._call, inputs, arrived_s)
        self._placement.learn(input_bytes, timing.compute_s)
        return outputs, timing

    def _call(
        self, inputs: Mapping[str, Value], arrived_s: float
    ) -> tuple[dict[str, Value], Timing]:
        started_s = self._clock()
        try:
            outputs = self._loaded.run(inputs)
        except PeltonError:
            raise
        # The model is foreign code: whatever it raises, SystemExit and all, is its own failure.
        except BaseException as error:
            name = self.metadata.name
            raise ModelFailed(
                f"model {name!r} raised {type(error).__name__}; "
                "the server's log tells more under this request's id"
            ) from error
        return outputs, Timing(started_s - arrived_s, self._clock() - started_s)

    def warm_up(self) -> None:
        """Run the model on zeros a few times, so that the first request meets a warm model.

        Only a quick model is run, whose inputs can be made up; a refusal is no harm, since real
        requests may have a shape that zeros of the smallest allowed shape do not.
        """
        zeros = _zeros(self.metadata) if self._may_run_on_loop else None
        if not zeros:
            return
        input_bytes = sum(value.nbytes for value in zeros.values())
        for _ in range(SAMPLES + 1):
            try:
                _, timing = self._call(zeros, self._clock())
            except PeltonError as error:
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise error.__cause__ from None
                logger.debug("warm-up of model %s was refused: %s", self.metadata.name, error)
                return
            self._placement.learn(input_bytes, timing.compute_s)

    def close(self) -> None:
        """Wait for the last run and give the model's memory back."""
        self._workers.close()
        self._loaded.close()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _zeros(metadata: ModelMetadata) -> dict[str, Value] | None:
    zeros: dict[str, Value] = {}
    for spec in metadata.inputs:
        shape = tuple(1 if dim == -1 else dim for dim in spec.shape)
        if spec.datatype == "BYTES" or np.prod(shape, dtype=float) > WARM_UP_ELEMENTS:
            return None
        zeros[spec.name] = np.zeros(shape, DATATYPES[spec.datatype].dtype)
    return zeros
