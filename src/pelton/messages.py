"""The two messages of the one verb, `async infer(InferRequest) -> InferResponse`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pelton.errors import Code
from pelton.specs import ModelMetadata

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
        deadline_s: when the answer is of no use any more, on the server's monotonic clock;
            infinity where the caller set no limit of its own.
        priority: 1 is served first, then 2, 3 and so on; 0 is the default, which is the middle.
        log_id: the name of the request in the server's log.
        key: whom the request is for, as its sender says: who has the same key is given the same
            version by routes that split; empty where nothing is said.
        tenant: whose request it is, by the key that let it in; empty where no keys are used.
        changeable: whether its sender can still write to inputs, since they lie in its own memory.
        signed: in place of inputs a pickle of any object, and then its buffers; who sent it has
            been made sure of. Empty for all other requests.
        given_s: when it was given to the version that answers, on the server's monotonic clock; 0
            before that.
        form: a token of whoever made the request: all requests with the same one bring inputs of
            the same names, in the same order, with the same dtypes, shapes and layout. So what was
            found out about one holds for all. None where nothing is known.
        elements: those of the only input, row-major, as they came and as they lie in memory; None
            where there are several inputs, or where that is not known.
    """

    model: str
    inputs: Mapping[str, Value]
    version: str | None = None
    outputs: tuple[str, ...] = ()
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    deadline_s: float = math.inf
    priority: int = 0
    log_id: str = ""
    key: str = ""
    tenant: str = ""
    changeable: bool = False
    signed: tuple[memoryview, ...] = ()
    given_s: float = 0.0
    form: object = None
    elements: memoryview | None = None


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds; the parts follow each other without gaps.

    Attributes:
        receive_s: from the first byte of its head to the last byte of its body, and decoding.
        queue_s: waiting for an instance of the model to become free.
        batch_wait_s: waiting, beside a free instance, for others to share a batch with.
        compute_s: the run of the batch that it was in, with the way to the instance and back.
        encode_s: writing the answer.
    """

    receive_s: float = 0.0
    queue_s: float = 0.0
    batch_wait_s: float = 0.0
    compute_s: float = 0.0
    encode_s: float = 0.0


@dataclass(slots=True)
class InferResponse:
    """The answer to an `InferRequest`.

    Attributes:
        model: the name of the model that answered.
        version: the version that answered, as text.
        outputs: output name -> value: those asked for in the order asked for, else all. Arrays are
            to be read only: others may be given them too, now or later.
        id: the request's id.
        timing: where the time went.
        digest: in deterministic mode, the SHA-256 of the outputs as `sha256:HEX`; else empty.
        metadata: of the version that answered, by which the outputs are written.
        notes: what else the caller is told, as names of headers and their values.
    """

    model: str
    version: str
    outputs: dict[str, Value]
    id: str = ""
    timing: Timing = field(default_factory=Timing)
    digest: str = ""
    metadata: ModelMetadata | None = None
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Observed:
    """What monitoring is told of each request that reached a model or was refused by it.

    Attributes:
        model: name of the model that was chosen; before that, the name that was asked for.
        error: why it failed, or None.
        timing: where the time went.
        batch_rows: rows of the batch that it was run in; 0 where it was not run.
        version: of the model that was chosen; 0 before that.
    """

    model: str
    error: Code | None
    timing: Timing
    batch_rows: int = 0
    version: int = 0


Infer = Callable[[InferRequest], Awaitable[InferResponse]]
"""The one verb."""

Observe = Callable[[Observed], None]
"""Told of every request; must be quick and must not raise."""
