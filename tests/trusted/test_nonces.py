"""No nonce is taken twice, whatever the clock does, and none is forgotten early."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pelton.trusted.nonces import Nonces, Use

WINDOW_S = 60


def test_a_nonce_is_taken_once() -> None:
    nonces = Nonces(floor_s=0)
    assert nonces.use("k", "n", 100, 40) is Use.FRESH
    assert nonces.use("k", "n", 100, 40) is Use.USED
    assert nonces.use("k", "n", 101, 41) is Use.USED, "also if it is signed again"


def test_each_key_has_nonces_of_its_own() -> None:
    nonces = Nonces(floor_s=0)
    assert nonces.use("k", "n", 100, 40) is Use.FRESH
    assert nonces.use("l", "n", 100, 40) is Use.FRESH


def test_a_nonce_is_kept_as_long_as_its_time_is_taken() -> None:
    nonces = Nonces(floor_s=0)
    nonces.use("k", "n", 100, 40)
    assert nonces.use("k", "n", 100, 100.0) is Use.USED
    assert len(nonces) == 1
    assert nonces.use("k", "m", 161, 100.001) is Use.FRESH
    assert len(nonces) == 1, "the first one is forgotten"


def test_a_full_store_refuses_and_forgets_nothing() -> None:
    nonces = Nonces(floor_s=0, capacity=2)
    for nonce in "ab":
        assert nonces.use("k", nonce, 100, 40) is Use.FRESH
    assert nonces.use("k", "c", 100, 40) is Use.FULL
    assert [nonces.use("k", nonce, 100, 40) for nonce in "ab"] == [Use.USED, Use.USED]
    assert len(nonces) == 2
    assert nonces.use("k", "c", 161, 101) is Use.FRESH, "there is room again later"


def test_a_clock_that_was_put_forward_and_back_brings_nothing_back() -> None:
    nonces = Nonces(floor_s=0)
    assert nonces.use("k", "a", 1000, 940) is Use.FRESH
    assert nonces.use("k", "b", 9000, 8940) is Use.FRESH, "forward: `a` is forgotten"
    assert nonces.use("k", "a", 1000, 940) is Use.TOO_OLD
    assert nonces.use("k", "c", 1001, 941) is Use.FRESH, "what is newer than it is still taken"


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    nonces = Nonces(floor_s=0)
    nonces.use("k", "a", 1000, 940)
    assert nonces.use("k", "a", 1000, 100) is Use.USED


def test_what_was_signed_before_the_start_is_not_taken() -> None:
    nonces = Nonces(floor_s=500.5)
    assert nonces.use("k", "a", 500, 440) is Use.TOO_OLD
    assert nonces.use("k", "a", 501, 440) is Use.FRESH


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5), st.integers(-80, 80)), max_size=60)
)
def test_nothing_is_taken_twice_whatever_the_clock_does(steps) -> None:
    """Each step sets the clock anywhere, and presents a nonce with a time that it was signed at.

    A signature fixes nonce and time, so a replay brings both again.
    """
    nonces = Nonces(floor_s=-1, capacity=8)
    taken = set()
    for now_s, nonce, shift in steps:
        entry = (str(nonce), now_s + shift)
        if not now_s - WINDOW_S <= entry[1] <= now_s + 5:
            continue
        if nonces.use("k", *entry, now_s - WINDOW_S) is Use.FRESH:
            assert entry not in taken
            taken.add(entry)
        assert len(nonces) <= 8
