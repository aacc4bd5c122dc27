"""Error replies, and the names under which the log knows a request."""

from __future__ import annotations

import json
import re

import pytest

from pelton.errors import Code, InvalidRequest, NotFound, PeltonError, Unavailable
from pelton.servers.replies import error_reply, request_id, retry_headers


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("say so"), 400, "invalid_input"),
        (InvalidRequest("say so", Code.TOO_LARGE), 413, "too_large"),
        (NotFound("say so"), 404, "not_found"),
        (Unavailable("say so"), 503, "unavailable"),
        (PeltonError("say so"), 500, "internal"),
    ],
)
def test_an_error_is_told_in_one_body(error: PeltonError, status: int, code: str) -> None:
    reply = error_reply(error, "id-1")
    (body,) = reply.chunks
    assert json.loads(body) == {"error": "say so", "code": code, "request_id": "id-1"}
    assert (reply.status, reply.content_type) == (status, "application/json")
    assert reply.size == len(body)
    assert reply.headers == ()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (2.4, "2"), (90.0, "90")]
)
def test_when_to_try_again_is_whole_seconds_and_never_none(seconds: float, told: str) -> None:
    error = Unavailable("full", seconds)
    assert retry_headers(error) == (("retry-after", told),)
    assert error_reply(error, "x").headers == (("retry-after", told),)


@pytest.mark.parametrize("error", [Unavailable("full"), NotFound("where?"), PeltonError("bug")])
def test_nothing_is_said_of_trying_again_where_nothing_is_known(error: PeltonError) -> None:
    assert retry_headers(error) == ()


@pytest.mark.parametrize("sent", ["a", "job-7", "A.b_c-9", "x" * 64])
def test_a_harmless_request_id_is_kept(sent: str) -> None:
    assert request_id(sent) == sent


@pytest.mark.parametrize(
    "sent", [None, "", "x" * 65, "a b", "a\nb", "a\n", "<b>", "caf\xe9", "a/b", '"', "\u0661"]
)
def test_any_other_gets_a_new_one(sent: str | None) -> None:
    new = request_id(sent)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", new)
    assert new != request_id(sent)
