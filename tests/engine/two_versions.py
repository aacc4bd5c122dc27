"""A model `m` in versions on fake instances, whose runs a test ends by hand, and requests to it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np

from pelton.caching.cache import ResultCache
from pelton.caching.making import cache_for
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.messages import InferRequest, InferResponse, Observed
from pelton.routing.plain import from_plain
from pelton.specs import Batching, ModelMetadata, Serving, TensorSpec
from pelton.testing import FakeInstance

X = TensorSpec("x", "FP32", (-1,))


def version_of(
    number: int, name: str = "m", instance: FakeInstance | None = None, **serving: Any
) -> tuple[Model, FakeInstance]:
    """Return a version of a model, and where it runs; on the clock of the running loop."""
    instance = instance or FakeInstance()
    metadata = ModelMetadata(name, str(number), "fake", (X,), (X,))
    told = Serving(**{"batching": Batching(max_batch_rows=1), **serving})
    return Model(metadata, [instance], told, asyncio.get_running_loop().time), instance


class Versions:
    """An engine with some versions of `m`.

    Attributes:
        models: what is served.
        at: version -> the model.
        runs: version -> where it runs.
        observed: what monitoring heard.
    """

    def __init__(self, *numbers: int, route: dict[str, Any] | None = None, **more: Any) -> None:
        """Load these versions; `more` goes to the engine."""
        made = {number: version_of(number) for number in numbers}
        self.at = {number: model for number, (model, _) in made.items()}
        self.runs = {number: instance for number, (_, instance) in made.items()}
        routes = [] if route is None else [from_plain("m", route)]
        self.models = Models(self.at.values(), routes)
        self.observed: list[Observed] = []
        self.engine = Engine(self.models, self.observed.append, **more)

    def ask(
        self, value: float = 1.0, model: str = "m", size: int = 1, **more: Any
    ) -> asyncio.Future[InferResponse]:
        """Send a request."""
        inputs = {"x": np.full(size, value, np.float32)}
        request = InferRequest(model, inputs, **{"deadline_s": math.inf, **more})
        return asyncio.ensure_future(self.engine.infer(request))


def kept(model: Model, digest: str = "", **serving: Any) -> ResultCache:
    """Have the answers of a version kept."""
    told = Serving(cache=True, deterministic=model.deterministic, **serving)
    model.cache = cache_for(model.metadata, told, digest, asyncio.get_running_loop().time)
    assert model.cache is not None
    return model.cache
