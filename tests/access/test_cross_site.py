"""A browser shall change nothing on behalf of a page of strangers."""

from __future__ import annotations

import pytest

from pelton.access.cross_site import check_page
from pelton.errors import AccessDenied, Code

HOST = {"host": "localhost:50000"}

OURS = [
    {},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": "http://localhost:50000"},
    {"origin": "https://localhost:50000"},
    {"sec-fetch-site": "same-origin", "origin": "http://localhost:50000"},
]

STRANGERS = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "same-origin, cross-site"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://localhost"},
    {"origin": "http://localhost:50000.evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "http://localhost:50000"},
]

CHANGING = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "WEBSOCKET"]


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize("headers", OURS)
def test_pages_of_ours_and_programs_pass(method: str, headers: dict[str, str]) -> None:
    check_page(method, HOST | headers)


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize("headers", STRANGERS)
def test_pages_of_strangers_do_not(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(AccessDenied, match="a page of another site") as refused:
        check_page(method, HOST | headers)
    assert refused.value.code is Code.FORBIDDEN


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", STRANGERS)
def test_anybody_may_ask_for_what_it_cannot_read(method: str, headers: dict[str, str]) -> None:
    check_page(method, HOST | headers)


def test_an_origin_without_a_host_is_not_ours() -> None:
    with pytest.raises(AccessDenied):
        check_page("POST", {"origin": "http://localhost"})
