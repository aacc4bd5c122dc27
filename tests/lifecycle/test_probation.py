"""Who stays and who is taken back, on what grounds, and how soon."""

from __future__ import annotations

import random

import pytest

from pelton.errors import Code
from pelton.lifecycle.facts import Baseline, Fact
from pelton.lifecycle.probation import Continue, Passed, Probation, ProbationPlan, TakeBack

PLAN = ProbationPlan(time_s=60.0, requests=1000)
BEFORE = Baseline(requests=1000, failed_share=0.0, nonfinite=0, median_s=0.008, p95_s=0.010)
GOOD = Fact(None, 0.009)
FAILED = Fact(Code.MODEL_FAILED, 0.009)


def probation(baseline: Baseline = BEFORE, **plan: float) -> Probation:
    fields = {name: getattr(PLAN, name) for name in ProbationPlan.__slots__}
    return Probation(ProbationPlan(**(fields | plan)), baseline, now_s=100.0)


def after(on: Probation, facts: list[Fact], now_s: float = 101.0) -> int | None:
    """Return with which of the facts the version was taken back; None if with none."""
    for count, fact in enumerate(facts, 1):
        if isinstance(on.see(fact, now_s), TakeBack):
            return count
    return None


def test_one_failure_among_the_first_three_kills_nobody() -> None:
    for place in range(3):
        facts = [GOOD] * 3
        facts[place] = FAILED
        assert after(on := probation(), facts) is None
        assert on.decision == Continue()


@pytest.mark.parametrize("code", [Code.MODEL_FAILED, Code.INTERNAL, Code.UNAVAILABLE])
def test_a_version_that_always_fails_is_taken_back_after_three_requests(code: Code) -> None:
    on = probation()
    assert after(on, [Fact(code, 0.009)] * 10) == 3
    assert isinstance(on.decision, TakeBack)
    assert on.decision.reason == "3 of 3 requests failed; at most 2 % may"
    assert on.decision.numbers["requests"] == on.decision.numbers["failed"] == 3
    assert on.decision.numbers["failure_evidence"] >= 2000


def test_a_version_that_begins_to_fail_after_a_hundred_requests_is_taken_back_as_soon() -> None:
    assert after(probation(), [GOOD] * 100 + [FAILED] * 10) == 105


@pytest.mark.parametrize("code", [Code.INVALID_INPUT, Code.NOT_FOUND, Code.RATE_LIMITED])
def test_nobody_can_have_a_version_taken_back_by_sending_wrong_requests(code: Code) -> None:
    assert after(probation(), [Fact(code, 0.0001)] * 500) is None


def test_as_many_failures_as_before_are_no_reason() -> None:
    chance = random.Random(3)
    before = Baseline(1000, 0.10, 0, 0.008, 0.010)
    facts = [FAILED if chance.random() < 0.10 else GOOD for _ in range(999)]
    assert after(probation(before), facts) is None
    assert after(probation(), facts) is not None, "but they are for one that follows a good version"


def test_a_version_that_follows_one_that_always_failed_may_fail() -> None:
    assert after(probation(Baseline(50, 1.0, 0, None, None)), [FAILED] * 900) is None


def test_expired_requests_count_if_the_version_had_the_time_that_was_usual() -> None:
    assert after(probation(), [Fact(Code.DEADLINE_EXCEEDED, 0.008)] * 10) == 3
    assert after(probation(), [Fact(Code.DEADLINE_EXCEEDED, 0.001)] * 500) is None
    assert after(probation(Baseline()), [Fact(Code.DEADLINE_EXCEEDED, 0.001)] * 10) == 3


@pytest.mark.parametrize("allowed", [0, 2])
def test_answers_with_nan_are_counted(allowed: int) -> None:
    on = probation(max_nonfinite=allowed)
    nan = Fact(None, 0.009, nonfinite=True)
    assert after(on, [GOOD, GOOD, nan, nan, nan, nan]) == 3 + allowed
    assert isinstance(on.decision, TakeBack)
    told = f"{allowed + 1} of {allowed + 3} answers held NaN or infinity; at most {allowed} may"
    assert on.decision.reason == told


def test_nan_is_no_reason_where_it_is_usual() -> None:
    masks = Baseline(1000, 0.0, 700, 0.008, 0.010)
    assert after(probation(masks), [Fact(None, 0.009, nonfinite=True)] * 500) is None


def test_a_version_that_is_too_slow_is_taken_back() -> None:
    on = probation(latency_factor=2.0)
    assert after(on, [Fact(None, 0.0201)] * 20) == 4
    assert isinstance(on.decision, TakeBack)
    assert on.decision.reason == "4 of 4 requests took longer than 20 ms; at most 5 % may"
    assert on.decision.numbers["slow_ms"] == pytest.approx(20.0)


def test_a_version_that_is_slower_within_the_factor_stays() -> None:
    assert after(probation(latency_factor=2.0), [Fact(None, 0.0199)] * 999) is None


def test_a_rare_slow_answer_is_usual() -> None:
    chance = random.Random(5)
    facts = [Fact(None, 1.0 if chance.random() < 0.04 else 0.005) for _ in range(999)]
    assert after(probation(), facts) is None


def test_within_a_millisecond_nothing_is_slow() -> None:
    quick = Baseline(1000, 0.0, 0, 0.00005, 0.0001)
    assert after(probation(quick), [Fact(None, 0.0009)] * 500) is None
    assert after(probation(quick), [Fact(None, 0.0011)] * 500) == 4


def test_latency_is_not_judged_without_a_baseline() -> None:
    on = probation(Baseline())
    assert after(on, [Fact(None, 50.0)] * 500) is None
    assert "slow" not in on.numbers()


def test_latency_is_not_judged_if_nobody_asks() -> None:
    assert after(probation(latency_factor=0.0), [Fact(None, 50.0)] * 500) is None


def test_where_no_request_may_fail_the_second_failure_is_one_too_many() -> None:
    assert after(probation(max_error_share=0.0), [GOOD] * 50 + [FAILED, GOOD, FAILED]) == 53


@pytest.mark.parametrize(
    "wrong",
    [{"requests": 0}, {"false_alarm": 0.0}, {"false_alarm": 1.0}, {"max_error_share": -0.1}],
)
def test_a_plan_by_which_nobody_can_be_judged_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no probation with"):
        probation(**wrong)


def test_enough_requests_end_it() -> None:
    on = probation(requests=10)
    decisions = [on.see(GOOD, 101.0) for _ in range(10)]
    assert decisions[:9] == [Continue()] * 9
    assert decisions[9] == Passed(on.numbers())
    assert on.numbers()["requests"] == 10
    assert after(on, [FAILED] * 50) is None, "and what comes after does not count"


def test_enough_time_ends_it_even_without_a_request() -> None:
    on = probation(time_s=60.0)
    assert on.ends_s == 160.0
    assert on.at(159.9) == Continue()
    assert isinstance(on.at(160.0), Passed)


def test_the_last_request_may_still_be_the_one_too_many() -> None:
    on = probation(requests=3)
    assert after(on, [FAILED] * 3) == 3


def test_being_taken_back_is_final() -> None:
    on = probation()
    after(on, [FAILED] * 5)
    decision = on.decision
    assert on.at(1e9) is decision
    assert on.see(GOOD, 1e9) is decision


def test_good_versions_are_hardly_ever_taken_back() -> None:
    """At the very edge of what is allowed on both counts, looked at after each request."""
    chance = random.Random(17)
    taken_back = 0
    for _ in range(300):
        on = probation(false_alarm=0.1)
        facts = [
            Fact(
                Code.MODEL_FAILED if chance.random() < 0.02 else None,
                0.5 if chance.random() < 0.05 else 0.009,
            )
            for _ in range(500)
        ]
        taken_back += after(on, facts) is not None
    assert taken_back <= 0.1 * 300 + 3 * (0.1 * 0.9 * 300) ** 0.5


def test_a_worker_that_ends_by_itself_is_one_too_many() -> None:
    on = probation()
    assert after(on, [GOOD] * 40) is None
    on.died(101.0)
    assert isinstance(on.decision, TakeBack)
    assert on.decision.reason == (
        "a worker process ended by itself or hung, after 40 requests; none of the version before did"
    )
    assert on.decision.numbers["worker_deaths"] == 1


def test_workers_that_ended_before_as_well_are_no_reason() -> None:
    on = probation(Baseline(1000, 0.0, 0, 0.008, 0.010, deaths=1))
    on.died(101.0)
    assert on.decision == Continue()
    assert on.numbers()["worker_deaths"] == 1


MIB = 2**20


def weighed(on: Probation, *mib: int) -> int | None:
    """Return with which of these weights the version was taken back; None if with none."""
    for count, each in enumerate(mib, 1):
        if isinstance(on.weigh(each * MIB, 101.0), TakeBack):
            return count
    return None


def test_a_version_whose_workers_grow_is_taken_back() -> None:
    on = probation(max_growth_bytes=64 * MIB)
    after(on, [GOOD] * 7)
    assert weighed(on, 100, 130, 164, 165, 90) == 4
    assert isinstance(on.decision, TakeBack)
    told = "its worker processes take 165 MiB after 7 requests; at most 164 MiB they may"
    assert on.decision.reason == told
    assert on.decision.numbers["worker_bytes"] == 165 * MIB
    assert on.decision.numbers["max_worker_bytes"] == 164 * MIB


def test_a_version_may_grow_as_large_as_the_one_before_had() -> None:
    grown = Baseline(worker_bytes=500 * MIB)
    assert weighed(probation(grown, max_growth_bytes=64 * MIB), 100, 300, 564) is None
    assert weighed(probation(grown, max_growth_bytes=64 * MIB), 100, 565) == 2


def test_a_version_that_is_large_from_the_beginning_has_not_grown() -> None:
    assert weighed(probation(max_growth_bytes=64 * MIB), 5000, 5064) is None


def test_growth_is_not_asked_for_where_it_may_be_any() -> None:
    assert weighed(probation(max_growth_bytes=0), 100, 100_000) is None


def test_what_has_no_workers_has_no_weight() -> None:
    on = probation()
    assert weighed(on, 0, 0) is None
    assert "worker_bytes" not in on.numbers()
