"""Starts the worker processes of one model, all at once."""

from __future__ import annotations

from collections.abc import Sequence

from pelton.arena import Arena
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.instance import ProcessInstance
from pelton.specs import ModelSpec


def start_instances(
    spec: ModelSpec, options: RuntimeOptions, arena: Arena | None, count: int
) -> list[ProcessInstance]:
    """Start workers for one model, all at once, and wait until each has loaded it.

    Args:
        spec: the model.
        options: how it is run.
        arena: where the bodies of requests lie, so that workers read them there; or None.
        count: how many workers.

    Raises:
        LoadFailed: one of them cannot load it; none is left.
    """
    instances = [ProcessInstance(spec, options, arena) for _ in range(count)]
    try:
        for instance in instances:
            instance.start()
        for instance in instances:
            instance.wait_loaded()
    except BaseException:
        _close_all(instances)
        raise
    return instances


def _close_all(instances: Sequence[ProcessInstance]) -> None:
    for instance in instances:
        instance.close()
    for instance in instances:
        instance.wait_closed()
