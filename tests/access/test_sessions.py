"""The dashboard's session: what the browser gets, what is kept, and when it ends."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.access.sessions import (
    MAX_SESSIONS_PER_KEY,
    OpenedSession,
    Session,
    Sessions,
    check_csrf,
)
from pelton.errors import AccessDenied, Code, InvalidRequest

NOW_S = 1_000.0


def returned(opened: OpenedSession) -> dict[str, str]:
    """Return the header that a browser would send with its next request."""
    return {"cookie": opened.cookie.partition(";")[0]}


def test_the_cookie_goes_to_this_server_only_and_no_script_sees_it() -> None:
    cookie = SimpleCookie(Sessions(tls=False, lasts_s=60).open("key", NOW_S).cookie)
    (morsel,) = cookie.values()
    assert morsel.key == "pelton_session"
    assert len(morsel.value) >= 43
    assert (morsel["path"], morsel["max-age"], morsel["domain"]) == ("/", "60", "")
    assert morsel["httponly"] is True
    assert morsel["samesite"] == "Strict"
    assert morsel["secure"] == ""


def test_with_tls_the_cookie_goes_no_other_way() -> None:
    (morsel,) = SimpleCookie(Sessions(tls=True).open("key", NOW_S).cookie).values()
    assert morsel.key == "__Host-pelton_session"
    assert (morsel["secure"], morsel["path"], morsel["domain"]) == (True, "/", "")


@pytest.mark.parametrize("tls", [False, True])
def test_a_session_is_found_by_its_cookie_until_it_ends(tls: bool) -> None:
    sessions = Sessions(tls, lasts_s=60)
    opened = sessions.open("key", NOW_S)
    assert opened.ends_s == NOW_S + 60
    found = sessions.find(returned(opened), NOW_S + 59.9)
    assert found == Session("key", opened.csrf, NOW_S + 60)
    assert sessions.find(returned(opened), NOW_S + 60) is None


def test_what_is_kept_is_not_what_the_browser_has() -> None:
    sessions = Sessions(tls=False)
    opened = sessions.open("key", NOW_S)
    value = returned(opened)["cookie"].partition("=")[2]
    kept = repr(vars(sessions))
    assert value not in kept
    assert opened.csrf not in kept


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "pelton_session=",
        "pelton_session",
        "pelton_session=x",
        "other={id}",
        "__Host-pelton_session={id}",
        "pelton_session={id}x",
        "pelton_session={id}; pelton_session=x",
        "pelton_session={id}, pelton_session=x",
    ],
)
def test_no_other_cookie_will_do(cookie: str) -> None:
    sessions = Sessions(tls=False)
    value = returned(sessions.open("key", NOW_S))["cookie"].partition("=")[2]
    assert sessions.find({"cookie": cookie.replace("{id}", value)}, NOW_S) is None
    assert sessions.find({}, NOW_S) is None


def test_cookies_of_others_beside_it_do_no_harm() -> None:
    sessions = Sessions(tls=False)
    own = returned(sessions.open("key", NOW_S))["cookie"]
    assert sessions.find({"cookie": f"a=b; {own};c=d=e"}, NOW_S) is not None


@given(st.text())
def test_any_text_may_come_as_a_cookie(text: str) -> None:
    assert Sessions(tls=False).find({"cookie": "pelton_session=" + text}, NOW_S) is None


def test_a_closed_session_is_over_and_the_browser_forgets_it() -> None:
    sessions = Sessions(tls=False)
    first, second = sessions.open("key", NOW_S), sessions.open("key", NOW_S)
    forgetting = sessions.close(returned(first))
    assert forgetting == "pelton_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
    assert sessions.find(returned(first), NOW_S) is None
    assert sessions.find(returned(second), NOW_S) is not None
    assert sessions.close({}) == forgetting


def test_the_oldest_session_of_a_key_makes_room_and_no_other() -> None:
    sessions = Sessions(tls=False)
    of_another = sessions.open("other", NOW_S)
    opened = [sessions.open("key", NOW_S) for _ in range(MAX_SESSIONS_PER_KEY + 1)]
    alive = [sessions.find(returned(each), NOW_S) is not None for each in opened]
    assert alive == [False] + [True] * MAX_SESSIONS_PER_KEY
    assert sessions.find(returned(of_another), NOW_S) is not None


def test_sessions_that_are_over_are_not_kept() -> None:
    sessions = Sessions(tls=False, lasts_s=60)
    for key in ("a", "b", "c"):
        sessions.open(key, NOW_S)
    sessions.open("d", NOW_S + 60)
    assert len(sessions) == 1


def test_without_keys_there_are_no_sessions() -> None:
    with pytest.raises(InvalidRequest, match="nobody needs a session"):
        Sessions(tls=False).open("", NOW_S)


def test_the_token_belongs_to_one_session() -> None:
    sessions = Sessions(tls=False)
    one, other = sessions.open("key", NOW_S), sessions.open("key", NOW_S)
    found = sessions.find(returned(one), NOW_S)
    assert found is not None
    check_csrf(found, {"x-csrf-token": one.csrf})
    wrong = [{}, {"x-csrf-token": other.csrf}, {"x-csrf-token": ""}, {"x-csrf-token": "\u0663"}]
    for headers in wrong:
        with pytest.raises(AccessDenied, match="X-CSRF-Token") as refused:
            check_csrf(found, headers)
        assert refused.value.code is Code.FORBIDDEN
        assert one.csrf not in refused.value.message


def test_tokens_of_another_start_are_no_good() -> None:
    one, other = Sessions(tls=False), Sessions(tls=False)
    assert one._csrf("same id") != other._csrf("same id")
