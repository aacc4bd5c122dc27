"""A loaded model whose behaviour a test writes down, and a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pelton.engine.model import Model
from pelton.engine.thread_instance import thread_instances
from pelton.messages import InferRequest, Timing
from pelton.specs import ModelMetadata, Serving, TensorSpec

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


class FakeClock:
    """Returns `now_s`, which stands still until a test moves it."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def described(
    *inputs: TensorSpec,
    name: str = "m",
    version: str = "1",
    outputs: tuple[TensorSpec, ...] = (),
    takes_objects: bool = False,
) -> ModelMetadata:
    """Return metadata of a model with these inputs."""
    return ModelMetadata(name, version, "fake", inputs, outputs, takes_objects=takes_objects)


VECTOR = TensorSpec("x", "FP32", (-1,))


class FakeModel:
    """What a runtime would have loaded."""

    def __init__(
        self,
        run: Run = dict,
        metadata: ModelMetadata | None = None,
        concurrent: bool = True,
        quick: bool = False,
    ) -> None:
        self.metadata = metadata or described(VECTOR)
        self.concurrent = concurrent
        self.quick = quick
        self.run = run
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def model_of(loaded: FakeModel, clock: FakeClock, instances: int = 2, **serving: Any) -> Model:
    """Put a model in threads: several if it is concurrent, and on the loop too if it is quick."""
    count = instances if loaded.concurrent else 1
    quick = loaded if loaded.quick and loaded.concurrent else None
    threads = thread_instances(loaded, count, clock)
    return Model(loaded.metadata, threads, Serving(**serving), clock, quick)


async def run(model: Model, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], Timing]:
    """Have a model run for a request without a deadline of its own."""
    answer, timing = await model.answer(InferRequest(model.metadata.name, inputs))
    return answer.outputs, timing
