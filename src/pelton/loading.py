"""Loads models: into threads of the server or into worker processes, as many as was planned.

A `Loader` may be used by several threads at once.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pelton.arena import Arena
from pelton.caching.making import cache_for
from pelton.clock import Clock
from pelton.engine.batch import most_batch_rows
from pelton.engine.model import Model
from pelton.engine.thread_instance import thread_instances
from pelton.errors import LoadFailed
from pelton.lifecycle.threaded_load import within
from pelton.result_cache import digest_to_share
from pelton.runtimes import registry
from pelton.runtimes.contract import Instance, LoadedModel, RuntimeOptions, Stop
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
    from pelton.caching.cache import FarStore
    from pelton.runtimes.process.instance import ProcessInstance
    from pelton.signed_objects import StartSigned

logger = logging.getLogger("pelton.app")

MOST_AT_ONCE = 4
"""So many models in worker processes are loaded at the same time at the start."""

SLOW_S = 30.0
"""After so long the log says which models the start still waits for."""


class Loader:
    """Loads the models of one server.

    Attributes:
        arena: memory that the server shares with its worker processes; None while there are none.
        far: where answers are kept besides this process, for models that have theirs kept; to be
            set before the first is loaded.
        start_signed: starts what answers signed objects; None where none are taken; set likewise.
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
        self.far: FarStore | None = None
        self.start_signed: StartSigned | None = None
        self._unwatched: deque[ProcessInstance] = deque()
        self._making_arena = threading.Lock()
        self._serving = serving
        self._options = options
        self._arena_bytes = arena_bytes
        self._clock = clock

    def load_one(self, spec: ModelSpec, stop: Stop | None = None) -> Model:
        """Load one version of a model.

        Args:
            spec: the version.
            stop: asked when nobody waits any more; worker processes are ended then.

        Raises:
            LoadFailed: it cannot be loaded; nothing of it is left.
        """
        started_s = self._clock()
        planned = self._plan(spec)
        plan, serving = planned.plan, planned.serving
        if plan.isolation == "process":
            placed = self._in_processes(spec, planned, stop)
        else:
            placed = _in_threads(spec, planned, stop)
        serving = with_safe_batches(serving, spec, placed.metadata)
        metadata = _with_rows(placed.metadata, serving)
        model = Model(metadata, placed.instances, serving, self._clock, placed.inline)
        shared = serving.cache and self.far is not None
        digest = digest_to_share(spec) if shared else ""
        model.cache = cache_for(placed.metadata, serving, digest, self._clock, self.far)
        self._take_signed(model, spec, planned, stop)
        _log(spec, placed, plan, serving, self._clock() - started_s)
        return model

    def _take_signed(
        self, model: Model, spec: ModelSpec, planned: _Planned, stop: Stop | None
    ) -> None:
        if self.start_signed is None or not model.metadata.takes_objects:
            return
        timeout_s = planned.serving.request_timeout_s
        try:
            model.signed = self.start_signed(spec, planned.options, timeout_s, stop or Stop())
        except BaseException:
            model.close()
            raise

    def load_each(self, specs: Sequence[ModelSpec], timeout_s: float) -> list[Model | LoadFailed]:
        """Load and warm several versions; those in worker processes at the same time.

        Args:
            specs: the versions.
            timeout_s: how long each may take; one that hangs is then given up.

        Returns:
            Each version, or why it cannot be loaded, in the order of the specs.
        """
        work = [_Wanted(spec) for spec in specs]
        apart = deque(one for one in work if self._is_apart(one.spec))
        here = deque(one for one in work if not self._is_apart(one.spec))
        try:
            for line in (here, *[apart] * min(MOST_AT_ONCE, len(apart))):
                # Daemons: a model that hangs must not keep Ctrl-C from ending the server.
                settle = functools.partial(self._settle_all, line, timeout_s)
                threading.Thread(target=settle, daemon=True).start()
            _tell_slow(work, timeout_s)
            return [_outcome(one.loaded) for one in work]
        except BaseException:
            apart.clear()
            here.clear()
            for one in work:
                one.stop.ask()
                one.loaded.add_done_callback(_close_loaded)
            raise

    def watch(self) -> None:
        """Have the running event loop watch the workers that were started since it last did."""
        while self._unwatched:
            self._unwatched.popleft().watch()

    def make_arena(self) -> Arena:
        """Make the arena now, where models in worker processes may come later."""
        with self._making_arena:
            if self.arena is None:
                self.arena = Arena.create(self._arena_bytes)
            return self.arena

    def _settle_all(self, line: deque[_Wanted], timeout_s: float) -> None:
        """Load what there is to load, until nothing is left; other threads may help."""
        while True:
            try:
                wanted = line.popleft()
            except IndexError:
                return
            try:
                wanted.loaded.set_result(self._in_time(wanted, timeout_s))
            # Border: whatever it is, the thread that waits for this load is told.
            except BaseException as error:  # noqa: BLE001
                wanted.loaded.set_exception(error)

    def _in_time(self, wanted: _Wanted, timeout_s: float) -> Model:
        """Load and warm a version, which gets a thread that can be left behind."""
        spec = wanted.spec
        load = functools.partial(self._load_warm, wanted)
        model = within(load, Model.close, f"loading-{spec.name}", timeout_s)
        if model is None:
            wanted.stop.ask()
            raise LoadFailed(
                f"version {spec.version} of model {spec.name!r} was not ready within "
                f"{timeout_s:g} s and is given up; if it is slow and does not hang, raise "
                "start_timeout_s"
            )
        return model

    def _load_warm(self, wanted: _Wanted) -> Model:
        model = self.load_one(wanted.spec, wanted.stop)
        model.warm_up(wanted.stop)
        return model

    def _is_apart(self, spec: ModelSpec) -> bool:
        try:
            return self._plan(spec).plan.isolation == "process"
        except LoadFailed:  # told when it is loaded
            return False

    def _plan(self, spec: ModelSpec) -> _Planned:
        plugin = registry.plugin_of(spec)
        serving = serving_of(spec, self._serving)
        device = spec.options.get("device", self._options.device)
        facts = Facts(plugin.isolated, not plugin.isolated, str(device).startswith("cuda"))
        plan = choose(serving, facts, usable_cores())
        options = dataclasses.replace(
            self._options, threads=plan.threads, deterministic=serving.deterministic
        )
        return _Planned(plugin, serving, plan, options)

    def _in_processes(self, spec: ModelSpec, planned: _Planned, stop: Stop | None) -> _Placed:
        from pelton.runtimes.process.starting import start_instances

        instances = start_instances(
            spec,
            planned.options,
            self.make_arena(),
            planned.plan.instances,
            stop,
            planned.serving.worker_max_bytes,
        )
        self._unwatched.extend(instances)
        return _Placed(instances[0].metadata, instances, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """One of several versions that are to be loaded.

    Attributes:
        spec: the version.
        loaded: it, once it is loaded.
        stop: asked when nobody waits any more.
    """

    spec: ModelSpec
    loaded: Future[Model] = field(default_factory=Future)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class _Planned:
    """How a model is to be run.

    Attributes:
        plugin: its runtime.
        serving: how it is served.
        plan: where, and how often at once.
        options: for the runtime.
    """

    plugin: RuntimePlugin
    serving: Serving
    plan: Plan
    options: RuntimeOptions


@dataclass(frozen=True, slots=True)
class _Placed:
    """A model where it runs.

    Attributes:
        metadata: what it says of itself.
        instances: where it runs.
        inline: the model, if it is in this process and any thread may run it.
    """

    metadata: ModelMetadata
    instances: Sequence[Instance]
    inline: LoadedModel | None


def _in_threads(spec: ModelSpec, planned: _Planned, stop: Stop | None) -> _Placed:
    options, plugin = planned.options, planned.plugin
    with ExitStack() as loaded:
        model = registry.load(spec, options, stop)
        loaded.callback(model.close)
        metadata = model.metadata
        facts = Facts(plugin.isolated, model.concurrent, metadata.device.startswith("cuda"))
        count = choose(planned.serving, facts, usable_cores()).instances
        if model.concurrent:
            instances = thread_instances(model, count)
        else:
            copies = [model]
            while len(copies) < count:
                copies.append(registry.load(spec, options, stop))
                loaded.callback(copies[-1].close)
            instances = [one for copy in copies for one in thread_instances(copy, 1)]
        loaded.pop_all()
    inline = model if model.concurrent and not plugin.isolated else None
    return _Placed(metadata, instances, inline)


def _with_rows(metadata: ModelMetadata, serving: Serving) -> ModelMetadata:
    """Return what a model says of itself, with the size of its batches for clients."""
    rows = most_batch_rows(metadata, serving)
    return dataclasses.replace(metadata, max_batch_rows=rows if rows > 1 else 0)


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


def _tell_slow(work: Sequence[_Wanted], timeout_s: float) -> None:
    """Wait a while for the loads, and log which of them take longer."""
    wait([one.loaded for one in work], SLOW_S)
    slow = [f"{one.spec.name} {one.spec.version}" for one in work if not one.loaded.done()]
    if slow:
        logger.info(
            "not loaded after %g s: %s; the server starts when they are, or are given up, "
            "each %g s after it was begun (start_timeout_s)",
            SLOW_S,
            ", ".join(slow),
            timeout_s,
        )


def _outcome(loading: Future[Model]) -> Model | LoadFailed:
    try:
        return loading.result()
    except LoadFailed as error:
        return error


def _close_loaded(loading: Future[Model]) -> None:
    """Close what was loaded for nobody."""
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
