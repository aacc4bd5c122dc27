"""Loads models: into threads of the server or into worker processes, as many as was planned."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pelton.arena import Arena
from pelton.clock import Clock
from pelton.engine.lane import most_batch_rows
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.thread_instance import thread_instances
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.runtimes.contract import Instance, LoadedModel, RuntimeOptions
from pelton.runtimes.registry import RuntimePlugin
from pelton.serving_plan import (
    Facts,
    Plan,
    choose,
    serving_of,
    usable_cores,
    with_safe_batches,
)
from pelton.specs import ModelMetadata, ModelSpec, Serving, TensorSpec

if TYPE_CHECKING:
    from pelton.runtimes.process.instance import ProcessInstance

logger = logging.getLogger("pelton.app")


class Loader:
    """Loads the models of one server.

    Attributes:
        arena: memory that the server shares with its worker processes; None while there are none.
    """

    def __init__(
        self, serving: Serving, options: RuntimeOptions, arena_bytes: int, clock: Clock
    ) -> None:
        """Make a loader.

        Args:
            serving: how models are served that say nothing of their own.
            options: how runtimes run them.
            arena_bytes: size of the arena, should one be needed.
            clock: the server's.
        """
        self.arena: Arena | None = None
        self._workers: list[ProcessInstance] = []
        self._serving = serving
        self._options = options
        self._arena_bytes = arena_bytes
        self._clock = clock

    def load(self, path: Path) -> Models:
        """Load the models that lie under a path.

        Raises:
            LoadFailed: nothing there can be served, or a model is broken; those that were loaded
                before it are closed.
        """
        with ExitStack() as loaded:
            models = []
            for spec in scan(path, registry.claims()):
                model = self._model(spec)
                loaded.callback(model.close)
                models.append(model)
                model.warm_up()
            loaded.pop_all()
        return Models(models)

    def watch(self) -> None:
        """Have the running event loop watch the worker processes, before any request comes."""
        for worker in self._workers:
            worker.watch()

    def _model(self, spec: ModelSpec) -> Model:
        started_s = self._clock()
        plugin = registry.plugin_of(spec)
        serving = serving_of(spec, self._serving)
        device = spec.options.get("device", self._options.device)
        facts = Facts(plugin.isolated, not plugin.isolated, str(device).startswith("cuda"))
        plan = choose(serving, facts, usable_cores())
        options = dataclasses.replace(
            self._options, threads=plan.threads, deterministic=serving.deterministic
        )
        if plan.isolation == "process":
            placed = self._in_processes(spec, options, plan.instances)
        else:
            placed = _in_threads(spec, options, serving, plugin)
        serving = with_safe_batches(serving, spec, placed.metadata)
        model = Model(placed.metadata, placed.instances, serving, self._clock, placed.quick)
        _log(spec, placed, plan, serving, self._clock() - started_s)
        return model

    def _in_processes(self, spec: ModelSpec, options: RuntimeOptions, count: int) -> _Placed:
        from pelton.runtimes.process.starting import start_instances

        if self.arena is None:
            self.arena = Arena.create(self._arena_bytes)
        instances = start_instances(spec, options, self.arena, count)
        self._workers += instances
        return _Placed(instances[0].metadata, instances, None)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A model where it runs.

    Attributes:
        metadata: what it says of itself.
        instances: where it runs.
        quick: the model, if it may run on the event loop.
    """

    metadata: ModelMetadata
    instances: Sequence[Instance]
    quick: LoadedModel | None


def _in_threads(
    spec: ModelSpec, options: RuntimeOptions, serving: Serving, plugin: RuntimePlugin
) -> _Placed:
    with ExitStack() as loaded:
        model = registry.load(spec, options)
        loaded.callback(model.close)
        metadata = model.metadata
        facts = Facts(plugin.isolated, model.concurrent, metadata.device.startswith("cuda"))
        count = choose(serving, facts, usable_cores()).instances
        if model.concurrent:
            instances = thread_instances(model, count)
        else:
            copies = [model]
            while len(copies) < count:
                copies.append(registry.load(spec, options))
                loaded.callback(copies[-1].close)
            instances = [one for copy in copies for one in thread_instances(copy, 1)]
        loaded.pop_all()
    quick = model if model.quick and model.concurrent else None
    return _Placed(metadata, instances, quick)


def _log(spec: ModelSpec, placed: _Placed, plan: Plan, serving: Serving, seconds: float) -> None:
    metadata = placed.metadata
    rows = most_batch_rows(metadata, serving)
    logger.info(
        "model %s version %s (%s on %s, %s, instances %d, threads %d, %s%s; loaded in %.0f ms): "
        "%s -> %s",
        metadata.name,
        metadata.version,
        spec.runtime,
        metadata.device,
        plan.isolation,
        len(placed.instances),
        plan.threads,
        f"batches up to {rows} rows" if rows > 1 else "no batches",
        ", deterministic" if serving.deterministic else "",
        seconds * 1000,
        _tensors(metadata.inputs),
        _tensors(metadata.outputs),
    )


def _tensors(specs: Sequence[TensorSpec]) -> str:
    told = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
    return told or "any values"
