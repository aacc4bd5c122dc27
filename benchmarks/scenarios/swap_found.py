"""What one run of the scenario `swap` found: who answered, and whether it was their turn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators import OK, Answers
from publishing import Timeline

BAD = ("unloadable", "nan", "shape", "slow")
"""What is wrong with versions, in turn; see `peers/versioned.py`."""

SETTLE_S = 1.0
"""So long after the last change, callers may still notice something of it."""

X = np.ones((1, 64), np.float32)
"""What every request asks."""


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        publishes: how many versions are sent.
        every_s: from one to the next, if it was done by then.
        quiet_s: without any change, before and after.
    """

    publishes: int
    every_s: float
    quiet_s: float

    def kind(self, number: int) -> str:
        """Return what is wrong with the publish of this number, from 0; `good` for nothing."""
        return BAD[number // 3 % len(BAD)] if number % 3 == 1 else "good"

    def then_rollback(self, number: int) -> bool:
        """Tell whether it is followed by a rollback."""
        return number % 6 == 5

    @property
    def last(self) -> int:
        """The largest version that is sent."""
        return 1 + self.publishes

    @property
    def lasts_s(self) -> float:
        """Seconds of the open loop."""
        return 2 * self.quiet_s + self.publishes * self.every_s


@dataclass(frozen=True)
class Late:
    """What callers saw of a version that was good at the gates and turned bad in service.

    Attributes:
        kind: how it turned bad.
        nan: answers with NaN that they got.
        failed: requests without an answer of status 200.
    """

    kind: str
    nan: int
    failed: int


@dataclass(frozen=True)
class Found:
    """What one model's server showed.

    Attributes:
        answers: every request of the open loop.
        timeline: what was ordered meanwhile.
        before_bytes: resident bytes of server and workers before the first publish.
        after_bytes: likewise, once only one version was left.
        memory_bytes: likewise, every half second of the open loop.
        late: what they saw of versions that turned bad in service, where there were any.
    """

    answers: Answers
    timeline: Timeline
    before_bytes: int
    after_bytes: int
    memory_bytes: list[int]
    late: tuple[Late, ...]

    @property
    def failed(self) -> int:
        """Requests without an answer of status 200."""
        return int((self.answers.status != OK).sum())

    @property
    def wrong(self) -> int:
        """Answers of a version that could not have answered then, or with values of another."""
        return _wrong(self.answers, self.timeline)

    def quiet(self, plan: Plan) -> Answers:
        """Return the requests that were due while nothing was being changed, for a while."""
        return self.answers.where(~self._in_storm(plan))

    def storm(self, plan: Plan) -> Answers:
        """Return all others: from the first change to the last, and the time between them."""
        return self.answers.where(self._in_storm(plan))

    def _in_storm(self, plan: Plan) -> npt.NDArray[np.bool_]:
        last_s = max(event.end_s for event in self.timeline.events) - self.answers.start_s
        after_s = max(plan.lasts_s - plan.quiet_s, last_s) + SETTLE_S
        due_s = self.answers.due_s
        return (due_s >= plan.quiet_s) & (due_s <= after_s)

    def changing(self) -> Answers:
        """Return the requests that were due while a version was published or taken back."""
        start_s = self.answers.start_s
        under_way = [self.timeline.under_way(start_s + due_s) for due_s in self.answers.due_s]
        return self.answers.where(np.array(under_way, bool))


def _said(body: bytes) -> dict[str, Any]:
    """Return the JSON part of an answer."""
    said: dict[str, Any] = json.JSONDecoder().raw_decode(body.decode("latin-1"))[0]
    return said


def values_of(body: bytes) -> npt.NDArray[np.float32]:
    """Return the tensor of an answer, which ends with its bytes."""
    (output,) = _said(body)["outputs"]
    size = output["parameters"]["binary_data_size"]
    return np.frombuffer(body, np.float32, offset=len(body) - size)


def _version_of(body: bytes) -> int | None:
    """Return the version that an answer says it is from; None if its values are of another."""
    version = int(_said(body)["model_version"])
    values = values_of(body)
    right = values.size == X.size and np.array_equal(values, X[0] + np.float32(version))
    return version if right else None


def _wrong(answers: Answers, timeline: Timeline) -> int:
    answered = answers.with_status(OK)
    versions = [_version_of(body) if body[:1] == b"{" else None for body in bodies_of(answered)]
    due_s = answered.start_s + answered.due_s
    wrong = 0
    for number, due, took in zip(answered.body, due_s, answered.latency_s, strict=True):
        version = versions[number]
        wrong += version is None or version not in timeline.allowed(float(due), float(due + took))
    return wrong


def bodies_of(answers: Answers) -> list[bytes]:
    """Return the bodies by number, those that nobody was answered with left empty."""
    used = set(answers.body.tolist())
    return [body if number in used else b"" for number, body in enumerate(answers.bodies)]
