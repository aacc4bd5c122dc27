"""A response, byte for byte."""

from __future__ import annotations

import http

import pytest

from pelton.errors import Code
from pelton.servers.http_reply import header_lines, response_pieces
from pelton.servers.replies import Reply
from pelton.wire.status import http_status


def reply(status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, "application/json", [b"{", b"}"], 2, headers)


def test_an_answer_on_a_connection_that_goes_on() -> None:
    assert response_pieces(reply(), True, b"") == [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    ]


def test_a_big_body_is_not_copied() -> None:
    big = memoryview(bytes(1 << 20))
    head, body = response_pieces(Reply(200, "a/b", [big], len(big)), True, b"")
    assert bytes(head).endswith(b"content-length: 1048576\r\n\r\n")
    assert body is big


def test_an_answer_that_is_the_connections_last() -> None:
    assert response_pieces(reply(404), False, b"") == [
        b"HTTP/1.1 404 Not Found\r\n"
        b"content-type: application/json\r\n"
        b"content-length: 2\r\n"
        b"connection: close\r\n"
        b"\r\n{}"
    ]


def test_own_headers_come_before_those_of_every_response() -> None:
    date = (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")
    pieces = response_pieces(
        reply(503, (("retry-after", "1"), ("x-a", "caf\xe9"))), True, header_lines([date])
    )
    assert pieces == [
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"content-type: application/json\r\n"
        b"content-length: 2\r\n"
        b"retry-after: 1\r\n"
        b"x-a: caf\xe9\r\n"
        b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"\r\n{}"
    ]


@pytest.mark.parametrize("code", list(Code))
def test_every_error_has_a_status_line(code: Code) -> None:
    status = http_status(code)
    line = bytes(response_pieces(reply(status), True, b"")[0]).partition(b"\r\n")[0]
    assert line == f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()
