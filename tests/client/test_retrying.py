"""Which failures are tried again, and after which pause."""

from __future__ import annotations

import pytest

from pelton.client.failure import Again, NoReply
from pelton.client.options import Retries
from pelton.client.retrying import Attempts
from pelton.errors import ConnectionFailed, Unavailable

LOST = ConnectionFailed("x")
PLENTY_S = 1e6


def attempts(draw: float = 1.0, *, idempotent: bool = False, **retries: float) -> Attempts:
    return Attempts(
        Retries(**{"attempts": 9, "first_delay_s": 1.0, "max_delay_s": 5.0} | retries),
        idempotent=idempotent,
        draw=lambda: draw,
    )


@pytest.mark.parametrize(
    ("failure", "always", "if_idempotent"),
    [
        (NoReply(LOST, Again.SAFE), True, True),
        (NoReply(LOST, Again.IF_IDEMPOTENT), False, True),
        (NoReply(LOST, Again.POINTLESS), False, False),
        (Unavailable("x", 0.0), True, True),
        (Unavailable("x"), False, False),
    ],
)
def test_only_what_is_safe_is_tried_again(failure, always, if_idempotent):
    assert (attempts().pause_s(failure, PLENTY_S) is not None) is always
    again = attempts(idempotent=True).pause_s(failure, PLENTY_S)
    assert (again is not None) is if_idempotent


def test_pauses_double_up_to_their_bound_and_are_drawn_from_all_of_it():
    failure = NoReply(LOST, Again.SAFE)
    longest, half = attempts(1.0), attempts(0.5)
    assert [longest.pause_s(failure, PLENTY_S) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert [half.pause_s(failure, PLENTY_S) for _ in range(4)] == [0.5, 1.0, 2.0, 2.5]
    assert attempts(0.0).pause_s(failure, PLENTY_S) == 0.0


def test_tries_are_counted():
    failure = NoReply(LOST, Again.SAFE)
    three = attempts(attempts=3)
    assert [three.pause_s(failure, PLENTY_S) is None for _ in range(3)] == [False, False, True]
    assert attempts(attempts=1).pause_s(failure, PLENTY_S) is None


def test_a_thousand_tries_do_not_overflow():
    many = attempts(attempts=3000)
    assert [many.pause_s(NoReply(LOST, Again.SAFE), PLENTY_S) for _ in range(2000)][-1] == 5.0


def test_the_server_decides_when_to_come_back():
    assert attempts(0.5).pause_s(Unavailable("x", 7.0), PLENTY_S) == 7.5


@pytest.mark.parametrize("left_s", [0.0, 1.0, 1.004])
def test_there_is_no_pause_without_time_for_a_try_after_it(left_s):
    assert attempts().pause_s(NoReply(LOST, Again.SAFE), left_s) is None
    assert attempts().pause_s(NoReply(LOST, Again.SAFE), 1.1) == 1.0
