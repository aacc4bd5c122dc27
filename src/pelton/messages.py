"""The two messages of the one verb, `async infer(InferRequest) -> InferResponse`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pelton.errors import Code

Value = Any
"""A tensor (numpy array); for object models also str, bytes, numbers, None, lists and dicts."""

Parameter = str | int | float | bool
"""What the protocol allows as the value of a parameter."""


@dataclass(slots=True)
class InferRequest:
    """A decoded request: what the caller wants from which model.

    Attributes:
        model: the model's name.
        inputs: input name -> value.
        version: the version as text, or None for the one that the server picks.
        outputs: names of the wanted outputs; empty means all.
        id: the caller's own name for the request, echoed in the answer.
        parameters: the caller's parameters that are not Pelton's own.
    """

    model: str
    inputs: Mapping[str, Value]
    version: str | None = None
    outputs: tuple[str, ...] = ()
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds.

    Attributes:
        queue_s: from the engine's door to the start of the model's run.
        compute_s: the model's run.
    """

    queue_s: float = 0.0
    compute_s: float = 0.0


@dataclass(slots=True)
class InferResponse:
    """The answer to an `InferRequest`.

    Attributes:
        model: the name of the model that answered.
        version: the version that answered, as text.
        outputs: output name -> value: those asked for in the order asked for, else all.
        id: the request's id.
        timing: where the time went.
    """

    model: str
    version: str
    outputs: dict[str, Value]
    id: str = ""
    timing: Timing = field(default_factory=Timing)


@dataclass(slots=True)
class Observed:
    """What monitoring is told of each request that reached a model or was refused by it.

    Attributes:
        model: the model's name as it was asked for.
        error: why it failed, or None.
        timing: where the time went.
    """

    model: str
    error: Code | None
    timing: Timing


Infer = Callable[[InferRequest], Awaitable[InferResponse]]
"""The one verb."""

Observe = Callable[[Observed], None]
"""Told of every request; must be quick and must not raise."""
