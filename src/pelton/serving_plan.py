"""How a model is served: whose word counts, and how many runs of how many threads.

`serving_of` puts the model's own word over the server's settings. `choose` fills in what nobody
said:

    where it runs         asked for       instances                threads of each
    ------------------    ------------    -----------------------  ---------------
    inline, shared        throughput      one per core             1
    inline, shared        latency         1                        one per core
    inline, not shared    either          1                        one per core
    process, stateless    throughput      one per core, at most 4  the cores over the instances
    process, else         either          1                        one per core
    on a GPU              either          1                        one per core
    anything              deterministic   1                        1

A model is shared where several threads may be in it at once: onnxruntime's sessions, and Python
that says `concurrent = true`. Stateless are the models whose runtime does not isolate them by
default; a policy in Python may remember what it saw, and two workers would remember two halves.
What was said comes before what is chosen, and the cores are then shared out around it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelton.specs import ModelMetadata, ModelSpec, Serving

MOST_WORKERS = 4
"""Worker processes that are chosen by themselves: each holds the weights once more."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What counts about a model.

    Attributes:
        isolated: whether its runtime wants worker processes where nobody says otherwise.
        shared: whether several threads may be in it at once.
        on_gpu: whether it computes on a GPU.
    """

    isolated: bool
    shared: bool
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is run.

    Attributes:
        isolation: `process` or `inline`.
        instances: runs that may be under way at once.
        threads: threads within one run.
    """

    isolation: str
    instances: int
    threads: int


def serving_of(spec: ModelSpec, server: Serving) -> Serving:
    """Return how a model is served: its own word, and else the server's.

    Args:
        spec: the model.
        server: the settings; its `deterministic` holds for every model.
    """
    said: dict[str, Any] = dict(spec.serving)
    own_batching: Mapping[str, Any] = said.pop("batching", {})
    batching = dataclasses.replace(server.batching, **own_batching)
    serving = dataclasses.replace(server, **said, batching=batching)
    return dataclasses.replace(serving, deterministic=serving.deterministic or server.deterministic)


def with_safe_batches(serving: Serving, spec: ModelSpec, metadata: ModelMetadata) -> Serving:
    """Return how a model is served without stringing together what are no rows.

    A bound that the model's own `model.toml` says holds as it is. The server's is meant for all
    models at once, so it holds for those whose every input and output begins with an open size;
    requests to any other run alone.

    Args:
        serving: how it is served.
        spec: the model, for its own word.
        metadata: what it says of itself.
    """
    tensors = (*metadata.inputs, *metadata.outputs)
    open_rows = bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)
    if spec.serving.get("batching", {}).get("max_batch_rows") or open_rows:
        return serving
    return dataclasses.replace(
        serving, batching=dataclasses.replace(serving.batching, max_batch_rows=1)
    )


def choose(serving: Serving, facts: Facts, cores: int) -> Plan:
    """Choose where a model runs, and how much of it at once; see the table above.

    Args:
        serving: what was said of it.
        facts: what counts about it.
        cores: how many the server may use.
    """
    isolation = serving.isolation
    if isolation == "auto":
        isolation = "process" if facts.isolated else "inline"
    if serving.deterministic:
        return Plan(isolation, 1, serving.threads or 1)
    instances = serving.instances or _instances(serving, facts, cores, isolation)
    return Plan(isolation, instances, serving.threads or max(1, cores // instances))


def _instances(serving: Serving, facts: Facts, cores: int, isolation: str) -> int:
    several = facts.shared if isolation == "inline" else not facts.isolated
    if not several or facts.on_gpu or serving.optimize_for == "latency":
        return 1
    fitting = max(1, cores // (serving.threads or 1))
    return fitting if isolation == "inline" else min(fitting, MOST_WORKERS)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
