"""A key is made, written and read in one way only."""

from __future__ import annotations

import hashlib
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.access.keys import (
    KEY_CHARACTERS,
    MAX_LABEL_CHARACTERS,
    Rate,
    checked_rate,
    is_secret_of,
    is_usable,
    make_key,
    read_key,
    revoked,
)
from pelton.errors import InvalidRequest
from pelton.records import Scope

NOW_S = 1_000.0

LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def test_a_new_key_is_read_back_as_itself() -> None:
    text, key = make_key("robot", [Scope.INFER], NOW_S)
    assert len(text) == KEY_CHARACTERS == 63
    prefix, key_id, secret = text.split("_")
    assert (prefix, key_id) == ("pelton", key.id)
    assert key.digest == hashlib.sha256(secret.encode()).digest()
    assert read_key(text) == (key.id, key.digest)
    assert set(secret) <= set(LETTERS_AND_DIGITS)
    assert len(LETTERS_AND_DIGITS) ** len(secret) >= 2**256


def test_what_is_kept_of_a_key_holds_no_secret() -> None:
    text, key = make_key("robot", [Scope.INFER], NOW_S)
    secret = text.rpartition("_")[2]
    assert secret not in repr(key)
    assert key.digest.hex() not in repr(key)
    assert repr(key.digest) not in repr(key)


def test_no_two_keys_are_alike() -> None:
    made = [make_key("robot", [Scope.INFER], NOW_S) for _ in range(50)]
    assert len({each.key.id for each in made}) == 50
    assert len({each.key.digest for each in made}) == 50


def test_a_key_says_what_it_was_made_with() -> None:
    key = make_key(
        "robot", {Scope.READ, Scope.INFER}, NOW_S, expires_s=2_000.0, requests_per_s=2.5, burst=7
    ).key
    assert (key.label, key.scopes) == ("robot", {Scope.INFER, Scope.READ})
    assert (key.created_s, key.expires_s, key.revoked_s) == (NOW_S, 2_000.0, None)
    assert (key.requests_per_s, key.burst) == (2.5, 7)


@pytest.mark.parametrize(("per_s", "burst"), [(0.5, 1), (2.0, 2), (2.5, 3), (None, 1)])
def test_without_a_burst_those_of_one_second_come_at_once(per_s: float | None, burst: int) -> None:
    assert make_key("robot", [Scope.INFER], NOW_S, requests_per_s=per_s).key.burst == burst


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scopes": []}, "needs a scope: infer, read"),
        ({"label": ""}, "label of 1 to 100"),
        ({"label": "a" * (MAX_LABEL_CHARACTERS + 1)}, "label of 1 to 100"),
        ({"label": "two\nlines"}, "printable"),
        ({"label": f"the old {make_key('old', [Scope.READ], NOW_S).text}"}, "has a key in it"),
        ({"label": make_key("old", [Scope.READ], NOW_S).text[:40]}, "has a key in it"),
        ({"expires_s": NOW_S}, "later than now"),
        ({"expires_s": math.nan}, "later than now"),
        ({"expires_s": math.inf}, "later than now"),
        ({"requests_per_s": 0.0}, "between 0.000001 and 1000000, not 0"),
        ({"requests_per_s": math.nan}, "not nan"),
        ({"requests_per_s": math.inf}, "not inf"),
        ({"requests_per_s": 1.0, "burst": 0}, "may come at once, not 0"),
        ({"burst": 5}, "says nothing without a rate"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(changes: dict[str, object], told: str) -> None:
    said = {"label": "robot", "scopes": [Scope.INFER], "now_s": NOW_S} | changes
    with pytest.raises(InvalidRequest, match=told):
        make_key(**said)


def test_a_rate_without_a_burst_lets_one_through_at_once_at_least() -> None:
    assert checked_rate(0.25) == Rate(0.25, 1)


@given(st.text())
def test_most_text_is_no_key(text: str) -> None:
    assert read_key(text) is None


@given(
    st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=12, max_size=12),
    st.text(LETTERS_AND_DIGITS, min_size=43, max_size=43),
)
def test_what_is_well_formed_splits_in_one_way(key_id: str, secret: str) -> None:
    read = read_key(f"pelton_{key_id}_{secret}")
    assert read == (key_id, hashlib.sha256(secret.encode()).digest())


@given(st.data())
def test_a_key_with_one_character_changed_is_another_or_none(data: st.DataObject) -> None:
    text, key = make_key("robot", [Scope.INFER], NOW_S)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda drawn: drawn != text[at]))
    read = read_key(text[:at] + other + text[at + 1 :])
    assert read is None or read.id != key.id or not is_secret_of(read.digest, key.digest)


@pytest.mark.parametrize("change", [str.upper, lambda text: text + "\n", lambda text: text + " "])
def test_a_key_has_one_spelling(change) -> None:
    assert read_key(change(make_key("robot", [Scope.INFER], NOW_S).text)) is None


def test_digits_of_other_scripts_are_none() -> None:
    assert read_key("pelton_" + "\u0663" * 12 + "_" + "a" * 43) is None


def test_a_key_is_good_until_the_moment_it_ends() -> None:
    key = make_key("robot", [Scope.INFER], NOW_S, expires_s=2_000.0).key
    assert is_usable(key, 1_999.9)
    assert not is_usable(key, 2_000.0)


def test_a_revoked_key_is_no_good_and_remembers_since_when() -> None:
    key = revoked(make_key("robot", [Scope.INFER], NOW_S).key, 1_500.0)
    assert not is_usable(key, 1_000.0)
    assert revoked(key, 1_600.0).revoked_s == 1_500.0
