"""Watches a version after it was swapped in, and says when the one before it has to come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pelton.lifecycle.facts import FAILURES, Baseline, Fact, expired
from pelton.lifecycle.sequential import ShareTest

SLOW_SHARE = 0.05
"""Share of requests that may be slow: the meaning of a 95th percentile."""

LEAST_SLOW_S = 0.001
"""Requests that took less are never slow, however fast the version before was: within a
millisecond, it is the machine that makes the difference."""

PATIENCE_FACTOR = 10.0
LEAST_PATIENCE_S = 1.0

_LEAST_SHARE, _MOST_SHARE = 1e-6, 0.99
"""Between these a share can be tested. Where none may fail, the second failure is one too many;
where all requests fail, none can tell."""


@dataclass(frozen=True, slots=True)
class ProbationPlan:
    """How long a new version is on probation, and what it may do then.

    Attributes:
        time_s: it has passed after as long, whatever came.
        requests: it has passed after as many requests.
        max_error_share: what share of its requests may fail, beyond the share that failed before.
        max_nonfinite: how many of its answers may hold NaN or infinity.
        latency_factor: it may take that many times as long as the version before it, compared by
            the time within which 95 of 100 requests are answered; 0 does not ask.
        max_growth_bytes: memory that its worker processes may take beyond what they, or those of
            the version before it, took when it came into service; 0 does not ask.
        false_alarm: largest probability that a version that keeps to all this is taken back
            for its failures or its latency.
    """

    time_s: float = 300.0
    requests: int = 10_000
    max_error_share: float = 0.02
    max_nonfinite: int = 0
    latency_factor: float = 2.0
    max_growth_bytes: int = 1024**3
    false_alarm: float = 0.001

    def __post_init__(self) -> None:
        """Find out before anything depends on it.

        Raises:
            ValueError: no version could be judged by that.
        """
        if self.requests < 1 or not 0.0 < self.false_alarm < 1.0 or self.max_error_share < 0.0:
            raise ValueError(f"no probation with {self}")


@dataclass(frozen=True, slots=True)
class Continue:
    """Nothing speaks against the version so far."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The version stays.

    Attributes:
        numbers: what was measured, for the record.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The version before has to come back.

    Attributes:
        reason: one sentence for people.
        numbers: what was measured, for the record.
    """

    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)


Decision = Continue | Passed | TakeBack


class Probation:
    """Eats what each request showed of a new version, and decides.

    Five things are watched:

    * failures: the share of failed requests is at most `failed_share` of the baseline plus
      `max_error_share`, by a `ShareTest`. A request whose time was over counts as failed if the
      version has had at least the time in which the one before answered half of its requests.
    * latency: the share of requests that took longer than `latency_factor` times the baseline's
      `p95_s` is at most 5 %, by another `ShareTest`. Not judged without a baseline.
    * answers with NaN or infinity: more than `max_nonfinite` of them. Not judged where the version
      before gave such answers too.
    * worker processes that end by themselves, or hang: none, unless the version before had some.
      While one is started again nobody is answered, so that few requests fail and callers suffer.
    * the memory of worker processes: it may grow by `max_growth_bytes`. Nothing else tells of a
      leak before it has filled the machine.

    Each of the two tests gets half of `false_alarm`; together they are wrong with at most that
    probability, however often they are looked at.

    >>> plan = ProbationPlan(time_s=60.0, requests=100)
    >>> before = Baseline(requests=1000, failed_share=0.001, median_s=0.008, p95_s=0.010)
    >>> from pelton.errors import Code
    >>> good, failed = Fact(None, 0.009), Fact(Code.MODEL_FAILED, 0.009)
    >>> probation = Probation(plan, before, now_s=0.0)
    >>> [type(probation.see(fact, 1.0)).__name__ for fact in (failed, good, good)]
    ['Continue', 'Continue', 'Continue']
    >>> probation = Probation(plan, before, now_s=0.0)
    >>> [type(probation.see(failed, 1.0)).__name__ for _ in range(4)]
    ['Continue', 'Continue', 'TakeBack', 'TakeBack']
    >>> print(probation.decision.reason)
    3 of 3 requests failed; at most 2.1 % may

    Attributes:
        decision: the latest; `Passed` and `TakeBack` are final.
    """

    def __init__(self, plan: ProbationPlan, baseline: Baseline, now_s: float) -> None:
        """Start a probation.

        Args:
            plan: how long, and what is allowed.
            baseline: what was usual for the version before.
            now_s: on the clock that all other times are on.
        """
        self.decision: Decision = Continue()
        self._plan = plan
        self._baseline = baseline
        self._ends_s = now_s + plan.time_s
        self._seen = 0
        self._nonfinite = 0
        self._deaths = 0
        self._bytes = 0
        self._most_bytes: int | None = None
        share = baseline.failed_share + plan.max_error_share
        bound = min(max(share, _LEAST_SHARE), _MOST_SHARE)
        self._failures = ShareTest(bound, plan.false_alarm / 2.0, plan.requests)
        self._slow_s: float | None = None
        if baseline.p95_s is not None and plan.latency_factor:
            self._slow_s = max(plan.latency_factor * baseline.p95_s, LEAST_SLOW_S)
        self._slow = ShareTest(SLOW_SHARE, plan.false_alarm / 2.0, plan.requests)

    @property
    def patience_s(self) -> float:
        """How long the version has for a request, before the one before it had better answer.

        Ten times as long as was usual, and at least a second; for ever where nothing was usual.
        """
        p95_s = self._baseline.p95_s
        return math.inf if p95_s is None else max(PATIENCE_FACTOR * p95_s, LEAST_PATIENCE_S)

    @property
    def ends_s(self) -> float:
        """When it is over at the latest, so that somebody asks `at` then."""
        return self._ends_s

    def see(self, fact: Fact, now_s: float) -> Decision:
        """Take in one request that was given to the new version.

        Args:
            fact: what it showed.
            now_s: when it ended.

        Returns:
            What follows from all that was seen.
        """
        if not isinstance(self.decision, Continue):
            return self.decision
        self._seen += 1
        self._nonfinite += fact.nonfinite
        if self._failures.add(self._is_failure(fact)):
            self._take_back(
                f"{self._failures.bad} of {self._seen} requests failed; "
                f"at most {100 * self._failures.bound:.3g} % may"
            )
        elif self._nonfinite > self._plan.max_nonfinite and not self._baseline.nonfinite:
            self._take_back(
                f"{self._nonfinite} of {self._seen} answers held NaN or infinity; "
                f"at most {self._plan.max_nonfinite} may"
            )
        elif self._slow_s is not None and self._slow.add(fact.latency_s > self._slow_s):
            self._take_back(
                f"{self._slow.bad} of {self._seen} requests took longer than "
                f"{1000 * self._slow_s:.3g} ms; at most {100 * SLOW_SHARE:.3g} % may"
            )
        return self.at(now_s)

    def died(self, now_s: float) -> Decision:
        """Take in that a worker process of the new version has ended by itself, or hung.

        Args:
            now_s: when.
        """
        self._deaths += 1
        if isinstance(self.decision, Continue) and not self._baseline.deaths:
            self._take_back(
                f"a worker process ended by itself or hung, after {self._seen} requests; "
                "none of the version before did"
            )
        return self.at(now_s)

    def weigh(self, worker_bytes: int, now_s: float) -> Decision:
        """Take in what memory the worker processes of the new version have.

        Args:
            worker_bytes: of all of them; the first time as it came into service.
            now_s: when.
        """
        if self._most_bytes is None:
            usual_bytes = max(worker_bytes, self._baseline.worker_bytes)
            self._most_bytes = usual_bytes + self._plan.max_growth_bytes
        self._bytes = worker_bytes
        too_large = self._plan.max_growth_bytes and worker_bytes > self._most_bytes
        if isinstance(self.decision, Continue) and too_large:
            self._take_back(
                f"its worker processes take {worker_bytes / 2**20:,.0f} MiB after {self._seen} "
                f"requests; at most {self._most_bytes / 2**20:,.0f} MiB they may"
            )
        return self.at(now_s)

    def at(self, now_s: float) -> Decision:
        """Say what is to be done, with no further request.

        Args:
            now_s: what time it is.
        """
        if isinstance(self.decision, Continue) and (
            self._seen >= self._plan.requests or now_s >= self._ends_s
        ):
            self.decision = Passed(self.numbers())
        return self.decision

    def numbers(self) -> dict[str, float]:
        """Return what was measured so far, as plain numbers for the record."""
        told: dict[str, float] = {
            "requests": self._seen,
            "failed": self._failures.bad,
            "max_failed_share": self._failures.bound,
            "failed_share_before": self._baseline.failed_share,
            "failure_evidence": self._failures.evidence,
            "nonfinite": self._nonfinite,
            "max_nonfinite": self._plan.max_nonfinite,
            "worker_deaths": self._deaths,
        }
        if self._bytes and self._most_bytes is not None:
            told["worker_bytes"] = self._bytes
            told["max_worker_bytes"] = self._most_bytes
        if self._slow_s is not None:
            told["slow"] = self._slow.bad
            told["slow_ms"] = 1000.0 * self._slow_s
            told["slow_evidence"] = self._slow.evidence
        return told

    def _is_failure(self, fact: Fact) -> bool:
        if expired(fact):
            return fact.latency_s >= (self._baseline.median_s or 0.0)
        return fact.error in FAILURES

    def _take_back(self, reason: str) -> None:
        self.decision = TakeBack(reason, self.numbers())
