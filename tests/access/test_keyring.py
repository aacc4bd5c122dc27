"""Who a request comes from, and that nobody else learns why it is not let in."""

from __future__ import annotations

import dataclasses

import pytest

from pelton.access.keyring import Keyring
from pelton.access.keys import NewKey, Rate, make_key, revoked
from pelton.errors import AccessDenied, Code
from pelton.records import Scope

NOW_S = 1_000.0


def new_key(*scopes: Scope, **terms: float) -> NewKey:
    return make_key("robot", scopes or [Scope.INFER], NOW_S, **terms)


GOOD = new_key(Scope.INFER, Scope.READ)
OTHER = new_key(Scope.READ)
OVER = new_key(Scope.INFER, expires_s=NOW_S + 1)
GONE = new_key(Scope.INFER)
STRANGE = new_key(Scope.INFER)

RING = Keyring([GOOD.key, OTHER.key, OVER.key, revoked(GONE.key, NOW_S)])


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {GOOD.text}"},
        {"authorization": f"bearer  {GOOD.text} "},
        {"x-api-key": GOOD.text},
        {"x-api-key": GOOD.text, "authorization": f"BEARER {GOOD.text}"},
    ],
)
def test_a_key_is_found_in_either_header(headers: dict[str, str]) -> None:
    caller = RING.identify(headers, NOW_S)
    assert (caller.key_id, caller.tenant) == (GOOD.key.id, GOOD.key.id)
    assert caller.scopes == {Scope.INFER, Scope.READ}


REFUSED = {
    "missing": {},
    "empty": {"x-api-key": ""},
    "malformed": {"x-api-key": "secret"},
    "scheme": {"authorization": f"Basic {GOOD.text}"},
    "scheme of the same length": {"authorization": f"Secret {GOOD.text}"},
    "bare": {"authorization": GOOD.text},
    "no space": {"authorization": f"Bearer{GOOD.text}"},
    "no key": {"authorization": "Bearer "},
    "unknown": {"x-api-key": STRANGE.text},
    "wrong secret": {"x-api-key": f"pelton_{GOOD.key.id}_{STRANGE.text[-43:]}"},
    "other key's secret": {"x-api-key": f"pelton_{GOOD.key.id}_{OTHER.text[-43:]}"},
    "over": {"x-api-key": OVER.text},
    "revoked": {"x-api-key": GONE.text},
    "two different": {"x-api-key": GOOD.text, "authorization": f"Bearer {OTHER.text}"},
    "one good, one not": {"x-api-key": GOOD.text, "authorization": "Bearer x"},
    "good, and another scheme": {"x-api-key": GOOD.text, "authorization": "Basic eA=="},
    "twice": {"authorization": f"Bearer {GOOD.text}, Bearer {GOOD.text}"},
    "not Latin": {"x-api-key": "\u0663" * 63},
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_who_are_refused_are_told_the_same(case: str) -> None:
    with pytest.raises(AccessDenied) as refused:
        RING.identify(REFUSED[case], NOW_S + 1)
    assert refused.value.code is Code.UNAUTHENTICATED
    assert refused.value.message == (
        "this needs a valid API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    )


def test_a_key_is_good_until_it_ends() -> None:
    headers = {"x-api-key": OVER.text}
    assert RING.identify(headers, NOW_S).key_id == OVER.key.id
    with pytest.raises(AccessDenied):
        RING.identify(headers, NOW_S + 1)


def test_admin_includes_all_but_to_trust_pickles() -> None:
    admin = new_key(Scope.ADMIN)
    caller = Keyring([admin.key]).identify({"x-api-key": admin.text}, NOW_S)
    assert caller.scopes == set(Scope) - {Scope.PICKLE_UNSAFE}
    both = new_key(Scope.ADMIN, Scope.PICKLE_UNSAFE)
    assert Keyring([both.key]).identify({"x-api-key": both.text}, NOW_S).scopes == set(Scope)


def test_a_key_brings_its_rate() -> None:
    limited = new_key(Scope.INFER, requests_per_s=2.0, burst=5)
    caller = Keyring([limited.key]).identify({"x-api-key": limited.text}, NOW_S)
    assert (caller.rate, caller.counted_as) == (Rate(2.0, 5), limited.key.id)


@pytest.mark.parametrize(
    ("keys", "required", "in_use"),
    [
        ([], False, False),
        ([], True, True),
        ([GOOD.key], False, True),
        ([revoked(GONE.key, NOW_S)], False, True),
        ([OVER.key], False, True),
    ],
)
def test_to_revoke_the_last_key_does_not_open_the_server(
    keys: list, required: bool, in_use: bool
) -> None:
    assert Keyring(keys, required).in_use is in_use


def test_somebody_can_be_let_in_as_long_as_one_key_is_good() -> None:
    ring = Keyring([OVER.key, revoked(GONE.key, NOW_S)])
    assert ring.has_usable(NOW_S)
    assert not ring.has_usable(NOW_S + 1)
    assert not Keyring(required=True).has_usable(NOW_S)


def test_whoever_has_a_key_is_found_by_its_id_while_it_is_good() -> None:
    assert RING.caller_of(OVER.key.id, NOW_S) == RING.identify({"x-api-key": OVER.text}, NOW_S)
    assert RING.caller_of(OVER.key.id, NOW_S + 1) is None
    assert RING.caller_of(GONE.key.id, NOW_S) is None
    assert RING.caller_of(STRANGE.key.id, NOW_S) is None


def test_a_ring_does_not_change_with_the_list_it_was_made_of() -> None:
    keys = [GOOD.key]
    ring = Keyring(keys)
    keys[0] = dataclasses.replace(GOOD.key, revoked_s=NOW_S)
    assert ring.has_usable(NOW_S)
    assert ring.identify({"x-api-key": GOOD.text}, NOW_S).key_id == GOOD.key.id
