"""Starts the worker processes of one model, all at once."""

from __future__ import annotations

from collections.abc import Sequence

from pelton.arena import Arena
from pelton.errors import LoadFailed
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.runtimes.process.instance import ProcessInstance
from pelton.specs import ModelSpec


def start_instances(
    spec: ModelSpec,
    options: RuntimeOptions,
    arena: Arena | None,
    count: int,
    stop: Stop | None = None,
    most_bytes: int = 0,
) -> list[ProcessInstance]:
    """Start workers for one model, all at once, and wait until each has loaded it.

    Args:
        spec: the model.
        options: how it is run.
        arena: where the bodies of requests lie, so that workers read them there; or None.
        count: how many workers.
        stop: asked by another thread when nobody waits any more; the workers are ended then.
        most_bytes: memory of its own that each may take before another takes its place; 0 for as
            much as it likes.

    Raises:
        LoadFailed: one of them cannot load it; none is left.
    """
    instances = [ProcessInstance(spec, options, arena, most_bytes) for _ in range(count)]
    stop = stop or Stop()
    try:
        stop.on_ask(lambda: _give_up_all(instances))
        for instance in instances:
            instance.start()
        if stop.asked:  # before there was a worker to be ended
            raise LoadFailed(f"loading {spec.name!r} was given up")
        for instance in instances:
            instance.wait_loaded()
    except BaseException:
        _close_all(instances)
        raise
    finally:
        stop.on_ask(None)
    return instances


def _give_up_all(instances: Sequence[ProcessInstance]) -> None:
    for instance in instances:
        instance.give_up()


def _close_all(instances: Sequence[ProcessInstance]) -> None:
    for instance in instances:
        instance.close()
    for instance in instances:
        instance.wait_closed()
