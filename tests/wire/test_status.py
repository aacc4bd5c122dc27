from __future__ import annotations

import http
import json

import pytest

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable, from_code
from pelton.wire.status import code_of_http, error_body, grpc_status, http_status

GRPC_NAMES = {
    "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "RESOURCE_EXHAUSTED", "INTERNAL",
    "FAILED_PRECONDITION", "UNIMPLEMENTED", "UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED",
    "ALREADY_EXISTS",
}  # fmt: skip


@pytest.mark.parametrize("code", Code)
def test_every_code_has_an_error_status_at_both_doors(code: Code) -> None:
    assert http.HTTPStatus(http_status(code)) >= 400
    assert grpc_status(code) in GRPC_NAMES


@pytest.mark.parametrize(
    ("code", "status", "grpc"),
    [
        (Code.INVALID_INPUT, 400, "INVALID_ARGUMENT"),
        (Code.MALFORMED_REQUEST, 400, "INVALID_ARGUMENT"),
        (Code.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
        (Code.FORBIDDEN, 403, "PERMISSION_DENIED"),
        (Code.NOT_FOUND, 404, "NOT_FOUND"),
        (Code.METHOD_NOT_ALLOWED, 405, "UNIMPLEMENTED"),
        (Code.RECEIVE_TIMEOUT, 408, "DEADLINE_EXCEEDED"),
        (Code.CONFLICT, 409, "ALREADY_EXISTS"),
        (Code.TOO_LARGE, 413, "RESOURCE_EXHAUSTED"),
        (Code.URI_TOO_LONG, 414, "INVALID_ARGUMENT"),
        (Code.UNSUPPORTED_MEDIA, 415, "INVALID_ARGUMENT"),
        (Code.RATE_LIMITED, 429, "RESOURCE_EXHAUSTED"),
        (Code.HEAD_TOO_LARGE, 431, "RESOURCE_EXHAUSTED"),
        (Code.MODEL_FAILED, 500, "INTERNAL"),
        (Code.INTERNAL, 500, "INTERNAL"),
        (Code.UNIMPLEMENTED, 501, "UNIMPLEMENTED"),
        (Code.UNAVAILABLE, 503, "UNAVAILABLE"),
        (Code.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"),
        (Code.DISK_FULL, 507, "RESOURCE_EXHAUSTED"),
    ],
)
def test_the_contract(code: Code, status: int, grpc: str) -> None:
    assert http_status(code) == status
    assert grpc_status(code) == grpc


@pytest.mark.parametrize("code", Code)
def test_a_status_leads_back_to_a_code_of_the_same_status(code: Code) -> None:
    assert http_status(code_of_http(http_status(code))) == http_status(code)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_INPUT),
        (404, Code.NOT_FOUND),
        (418, Code.INVALID_INPUT),
        (429, Code.RATE_LIMITED),
        (500, Code.INTERNAL),
        (502, Code.CONNECTION_FAILED),
        (599, Code.INTERNAL),
        (301, Code.INTERNAL),
    ],
)
def test_statuses_of_strangers(status: int, code: Code) -> None:
    assert code_of_http(status) is code


def test_error_body_names_code_and_request() -> None:
    body = error_body(InvalidRequest("no such thing"), "r-1")
    assert json.loads(body) == {
        "error": "no such thing",
        "code": "invalid_input",
        "request_id": "r-1",
    }


@pytest.mark.parametrize("told", ["a\nb\x00\x1b[31m", "naïve 漢", '"quoted" \\ '])
def test_error_body_carries_any_text_in_ascii(told: str) -> None:
    body = error_body(Unavailable(told), told)
    assert body.isascii()
    assert not any(octet < 0x20 for octet in body)
    assert json.loads(body) == {"error": told, "code": "unavailable", "request_id": told}


def test_error_body_survives_half_a_surrogate_pair() -> None:
    body = error_body(PeltonError("x\ud800y"), "\udfff")
    assert json.loads(body) == {"error": "x?y", "code": "internal", "request_id": "?"}


@pytest.mark.parametrize("code", Code)
def test_the_client_rebuilds_what_the_server_raised(code: Code) -> None:
    said = json.loads(error_body(from_code(code, "why"), ""))
    assert from_code(Code(said["code"]), said["error"]).code is code
