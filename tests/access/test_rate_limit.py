"""The bucket: exactly so many at once, then one for each part of a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.access.keys import Rate
from pelton.access.rate_limit import RateLimiter
from pelton.errors import Code, Unavailable


class Time:
    """A clock that the test sets."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def passes(limiter: RateLimiter, rate: Rate, who: str = "a", route: str = "/infer") -> bool:
    try:
        limiter.take(who, route, rate)
    except Unavailable as error:
        if error.code is Code.RATE_LIMITED:
            return False
        raise
    return True


@pytest.mark.parametrize("rate", [Rate(1.0, 1), Rate(10.0, 3), Rate(0.1, 7), Rate(3.0, 1)])
@pytest.mark.parametrize("begin_s", [0.0, 12_345.678, 9e6])
def test_exactly_so_many_pass_at_once_and_then_one_at_a_time(rate: Rate, begin_s: float) -> None:
    clock = Time(begin_s)
    limiter = RateLimiter(clock)
    assert [passes(limiter, rate) for _ in range(rate.burst + 2)] == [True] * rate.burst + [
        False
    ] * 2
    for count in range(1, 20):
        clock.now_s = begin_s + (count - 0.01) / rate.per_s
        assert not passes(limiter, rate)
        clock.now_s = begin_s + count / rate.per_s
        assert passes(limiter, rate)
        assert not passes(limiter, rate)


def test_the_refused_are_told_when_the_next_one_passes() -> None:
    clock = Time()
    limiter = RateLimiter(clock)
    rate = Rate(0.5, 2)
    assert [passes(limiter, rate) for _ in range(2)] == [True, True]
    clock.now_s = 0.5
    with pytest.raises(Unavailable) as refused:
        limiter.take("a", "/infer", rate)
    assert refused.value.code is Code.RATE_LIMITED
    assert refused.value.retry_after_s == pytest.approx(1.5)
    assert refused.value.message.startswith("this is more than 0.5 requests per second (2 at once)")
    clock.now_s += refused.value.retry_after_s
    assert passes(limiter, rate)


def test_to_be_refused_costs_nothing() -> None:
    clock = Time()
    limiter = RateLimiter(clock)
    rate = Rate(1.0, 1)
    assert passes(limiter, rate)
    for step in range(1, 100):
        clock.now_s = step / 100
        assert not passes(limiter, rate)
    clock.now_s = 1.0
    assert passes(limiter, rate)


def test_after_a_pause_the_bucket_is_full_and_no_fuller() -> None:
    clock = Time()
    limiter = RateLimiter(clock)
    rate = Rate(1.0, 3)
    assert [passes(limiter, rate) for _ in range(4)] == [True, True, True, False]
    clock.now_s = 1000.0
    assert [passes(limiter, rate) for _ in range(4)] == [True, True, True, False]


def test_others_and_other_routes_have_their_own() -> None:
    limiter = RateLimiter(Time())
    rate = Rate(1.0, 1)
    assert passes(limiter, rate)
    assert not passes(limiter, rate)
    assert passes(limiter, rate, who="b")
    assert passes(limiter, rate, route="/stats")


def test_a_rate_that_was_changed_holds_from_the_next_request_on() -> None:
    limiter = RateLimiter(Time())
    assert [passes(limiter, Rate(1.0, 5)) for _ in range(2)] == [True, True]
    assert [passes(limiter, Rate(1.0, 2)) for _ in range(3)] == [True, True, False]


def test_the_longest_unused_bucket_makes_room() -> None:
    limiter = RateLimiter(Time(), max_buckets=3)
    rate = Rate(1.0, 1)
    for who in "abc":
        assert passes(limiter, rate, who)
    assert not passes(limiter, rate, "a")  # and so b is the one unused for longest
    assert passes(limiter, rate, "d")
    assert len(limiter) == 3
    assert [passes(limiter, rate, who) for who in "acdb"] == [False, False, False, True]


@given(
    per_s=st.floats(0.01, 1000),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 2), max_size=60),
)
def test_nobody_gets_more_than_the_rate(per_s: float, burst: int, gaps: list[float]) -> None:
    clock = Time()
    limiter = RateLimiter(clock)
    rate = Rate(per_s, burst)
    passed = 0
    for gap in [0.0, *gaps]:
        clock.now_s += gap
        passed += passes(limiter, rate)
        assert passed <= burst + clock.now_s * per_s + 1e-3
