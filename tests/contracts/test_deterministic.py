"""In deterministic mode the same requests, in the same order, get the same bits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import numpy as np

from engine.fake_models import FakeModel
from pelton.engine.digest import digest_of
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.thread_instance import thread_instances
from pelton.messages import InferRequest, InferResponse
from pelton.specs import Batching, ModelMetadata, Serving, TensorSpec

REQUESTS = 1000
ROWS = TensorSpec("x", "FP32", (-1, -1))


class Remembering(FakeModel):
    """Every answer depends on all requests before it, and on how many rows ran with it."""

    def __init__(self) -> None:
        super().__init__(metadata=ModelMetadata("m", "1", "fake", (ROWS,), ()), concurrent=False)
        self.run = self.remember
        self.state = np.float32(1.0)

    def remember(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = inputs["x"]
        self.state = np.float32(np.tanh(self.state + x.sum(dtype=np.float32) / 7 + len(x)))
        return {"y": x * self.state, "state": np.full(len(x), self.state, np.float32)}


def mixed_requests() -> list[InferRequest]:
    chance, values = random.Random(11), np.random.default_rng(11)
    shapes = [(chance.randint(1, 4), chance.choice([1, 3, 64, 300])) for _ in range(REQUESTS)]
    return [
        InferRequest(
            "m", {"x": values.standard_normal(shape, np.float32)}, priority=chance.randint(0, 9)
        )
        for shape in shapes
    ]


async def answers(deterministic: bool) -> list[InferResponse]:
    loaded = Remembering()
    serving = Serving(deterministic=deterministic, batching=Batching(max_batch_rows=16))
    model = Model(loaded.metadata, thread_instances(loaded, 1), serving, time.monotonic)
    engine = Engine(Models([model]), lambda observed: None)
    found = await asyncio.gather(*[engine.infer(request) for request in mixed_requests()])
    model.close()
    return found


async def test_a_thousand_mixed_requests_twice_give_the_same_bits() -> None:
    first, second = await answers(True), await answers(True)
    assert [one.digest for one in first] == [one.digest for one in second]
    assert len({one.digest for one in first}) == REQUESTS
    for one, other in zip(first, second, strict=True):
        for name, value in one.outputs.items():
            assert value.tobytes() == other.outputs[name].tobytes()
        assert one.digest == digest_of(one.outputs)


async def test_it_is_the_mode_that_does_it() -> None:
    in_order, reordered = await answers(True), await answers(False)
    assert all(one.digest == "" for one in reordered)
    different = [
        one.outputs["y"].tobytes() != other.outputs["y"].tobytes()
        for one, other in zip(in_order, reordered, strict=True)
    ]
    assert sum(different) > REQUESTS / 2
