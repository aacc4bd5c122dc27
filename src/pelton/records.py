"""What is kept in the state, across restarts: keys, traffic, versions, and who changed what.

The rooms that decide by these records and the room that keeps them know nothing of each other;
they share the words of this file. Times are seconds since 1970, UTC, since they outlive a process.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NEW = 0
"""The revision of a route that is not there; the first one of any route is larger."""


class Scope(enum.StrEnum):
    """What a key may be used for."""

    INFER = "infer"
    READ = "read"
    MODELS_WRITE = "models:write"
    TRAFFIC = "traffic"
    TASKS = "tasks"
    PICKLE_UNSAFE = "pickle:unsafe"
    ADMIN = "admin"
    """Everything but `pickle:unsafe`, and the keys themselves."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept; the secret itself is shown once and never kept.

    Attributes:
        id: public part of the key, by which it is found, listed and revoked.
        digest: SHA-256 of the secret, 32 bytes.
        label: what people call it.
        scopes: what it may be used for.
        created_s: when it was made.
        expires_s: when it ends; None for never.
        revoked_s: when it was revoked; None while it is not.
        requests_per_s: how many requests it may send per second, on average, to each route; None
            for as many as it likes.
        burst: how many of them may come at once.
    """

    id: str
    digest: bytes = field(repr=False)
    label: str
    scopes: frozenset[Scope]
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    requests_per_s: float | None = None
    burst: int = 1


class VersionState(enum.StrEnum):
    """How far a version came that was published; which one is served is told by the swaps."""

    PUBLISHED = "published"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """One version of one model that came into the repository.

    Attributes:
        model: the model's name.
        version: positive; never used twice for a model, not even after a refusal.
        digest: SHA-256 of its manifest, as `sha256:HEX`.
        state: how far it came.
        reason: which gate refused it and why; empty for others.
        published_s: when.
        actor: id of the key that published it; empty where no keys are used.
    """

    model: str
    version: int
    digest: str
    state: VersionState
    reason: str
    published_s: float
    actor: str


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of the version that answers for a name.

    Attributes:
        model: the model's name.
        before: the version that answered; None for the first.
        after: the version that answers now.
        cause: `publish`, `rollback`, `probation` or `load`.
        numbers: what was measured that led to it, such as error rates on probation.
        at_s: when.
        actor: id of the key; empty where no keys are used, or where the server did it by itself.
    """

    model: str
    before: int | None
    after: int
    cause: str
    numbers: Mapping[str, Any]
    at_s: float
    actor: str


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the audit trail; rows are never changed or removed.

    Attributes:
        at_s: when.
        actor: id of the key; `local` for the command line on the server's own machine.
        action: such as `keys.create`, `route.set`, `version.publish`, `model.rollback`.
        subject: what was changed: name of a route, a model, id of a key.
        before: as plain values; None where it was not there.
        after: likewise; None where it is gone.
    """

    at_s: float
    actor: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """Which version a request was given to, by chance or by key, for those who judge it later.

    Attributes:
        route: name of the route.
        unit: what was assigned: the caller's key, or the request's id.
        by_key: whether `unit` is a caller's key.
        arm: the version that was chosen, as text.
        probability: with which it was, among those enrolled.
        enrolled: whether the unit takes part; the others are served by the main arm.
        forced: whether the caller named the version, so that it does not count.
        at_s: when.
        salt: of the split; a new one is a new experiment, in which every unit is new.
    """

    route: str
    unit: str
    by_key: bool
    arm: str
    probability: float
    enrolled: bool
    forced: bool
    at_s: float
    salt: str = ""
