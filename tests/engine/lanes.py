"""A model on instances whose runs a test ends by hand, and requests to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.messages import InferRequest, InferResponse, Observed
from pelton.specs import Batching, ModelMetadata, Serving, TensorSpec
from pelton.testing import FakeInstance

ROWS = TensorSpec("x", "FP32", (-1, 2))
SHARING = Batching(max_batch_rows=8)


def x(*firsts: float) -> np.ndarray:
    """Return as many rows of two numbers."""
    return np.array([[first, -first] for first in firsts], np.float32)


class Served:
    """An engine with one model `m` on fake instances, on the clock of the event loop."""

    def __init__(
        self,
        instances: int = 1,
        specs: tuple[TensorSpec, ...] = (ROWS,),
        takes_objects: bool = False,
        make: Callable[[], FakeInstance] = FakeInstance,
        **serving: Any,
    ) -> None:
        self.instances = [make() for _ in range(instances)]
        metadata = ModelMetadata("m", "1", "fake", specs, specs, takes_objects=takes_objects)
        serving = {"batching": SHARING, **serving}
        self.clock = asyncio.get_running_loop().time
        self.model = Model(metadata, self.instances, Serving(**serving), self.clock)
        self.observed: list[Observed] = []
        self.engine = Engine(Models([self.model]), self.observed.append)

    @property
    def instance(self) -> FakeInstance:
        """The only one."""
        (instance,) = self.instances
        return instance

    @property
    def statistics(self):
        return self.model.statistics()

    def ask(self, *firsts: float, timeout_s: float = math.inf, **more: Any) -> Asked:
        """Send a request with these rows."""
        return self.send({"x": x(*firsts)}, timeout_s, **more)

    def send(self, inputs: dict[str, Any], timeout_s: float = math.inf, **more: Any) -> Asked:
        request = InferRequest("m", inputs, deadline_s=self.clock() + timeout_s, **more)
        return asyncio.ensure_future(self.engine.infer(request))


Asked = asyncio.Future[InferResponse]


def rows_of_runs(instance: FakeInstance) -> list[list[float]]:
    """Return the first number of every row of every run."""
    return [run.inputs["x"][:, 0].tolist() for run in instance.runs]
