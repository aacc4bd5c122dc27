"""What went wrong, as HTTP and gRPC say it, and the one body that tells it.

`Code -> (HTTP status, gRPC status)` is one table for every door. A client that got an answer
from something between it and the server (a proxy) goes the other way, from status to `Code`.
"""

from __future__ import annotations

import json

from pelton.errors import Code, PeltonError

_STATUS: dict[Code, tuple[int, str]] = {
    Code.INVALID_INPUT: (400, "INVALID_ARGUMENT"),
    Code.MALFORMED_REQUEST: (400, "INVALID_ARGUMENT"),
    Code.BAD_SETTING: (400, "INVALID_ARGUMENT"),
    Code.LOAD_FAILED: (400, "FAILED_PRECONDITION"),
    Code.UNAUTHENTICATED: (401, "UNAUTHENTICATED"),
    Code.FORBIDDEN: (403, "PERMISSION_DENIED"),
    Code.NOT_FOUND: (404, "NOT_FOUND"),
    Code.METHOD_NOT_ALLOWED: (405, "UNIMPLEMENTED"),
    Code.RECEIVE_TIMEOUT: (408, "DEADLINE_EXCEEDED"),
    Code.CONFLICT: (409, "ALREADY_EXISTS"),
    Code.TOO_LARGE: (413, "RESOURCE_EXHAUSTED"),
    Code.URI_TOO_LONG: (414, "INVALID_ARGUMENT"),
    Code.UNSUPPORTED_MEDIA: (415, "INVALID_ARGUMENT"),
    Code.RATE_LIMITED: (429, "RESOURCE_EXHAUSTED"),
    Code.HEAD_TOO_LARGE: (431, "RESOURCE_EXHAUSTED"),
    Code.INTERNAL: (500, "INTERNAL"),
    Code.MODEL_FAILED: (500, "INTERNAL"),
    Code.UNIMPLEMENTED: (501, "UNIMPLEMENTED"),
    Code.CONNECTION_FAILED: (502, "UNAVAILABLE"),
    Code.UNAVAILABLE: (503, "UNAVAILABLE"),
    Code.DEADLINE_EXCEEDED: (504, "DEADLINE_EXCEEDED"),
    Code.DISK_FULL: (507, "RESOURCE_EXHAUSTED"),
}

_CODE_OF_HTTP: dict[int, Code] = {}
for _code, (_http, _) in _STATUS.items():
    _CODE_OF_HTTP.setdefault(_http, _code)


def http_status(code: Code) -> int:
    """Return the HTTP status with which a door tells `code`."""
    return _STATUS[code][0]


def grpc_status(code: Code) -> str:
    """Return the name of the gRPC status with which a door tells `code`."""
    return _STATUS[code][1]


def code_of_http(status: int) -> Code:
    """Return what an HTTP status means when the body does not hold our own code.

    Any other 4xx is the request's fault and any other status the server's.
    """
    found = _CODE_OF_HTTP.get(status)
    if found is not None:
        return found
    return Code.INVALID_INPUT if 400 <= status < 500 else Code.INTERNAL


def error_body(error: PeltonError, request_id: str) -> bytes:
    """Write the error body of every door: `{"error", "code", "request_id"}`.

    Args:
        error: what went wrong. Its message may hold anything that a caller sent; half of a
            surrogate pair, which no UTF-8 can carry, becomes a question mark.
        request_id: under which the server's log knows the request.

    Returns:
        ASCII JSON.
    """
    said = {"error": error.message, "code": str(error.code), "request_id": request_id}
    clean = {key: text.encode("utf-8", "replace").decode() for key, text in said.items()}
    return json.dumps(clean, separators=(",", ":")).encode("ascii")
