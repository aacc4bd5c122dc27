"""What a door answers, before it is bytes on a socket."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass

from pelton.access.keyring import CHALLENGE
from pelton.access.keys import PREFIX
from pelton.access.redaction import redacted
from pelton.errors import Code, PeltonError, Unavailable
from pelton.wire.status import error_body, http_status

JSON = "application/json"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_MAY_BE_SECRET = PREFIX.encode("ascii")
_process = os.urandom(4).hex()
_counter = itertools.count(1)


@dataclass(slots=True)
class Reply:
    """One answer.

    Attributes:
        status: HTTP status.
        content_type: media type of the body.
        chunks: the body, piece by piece, so that big outputs are never joined.
        size: bytes of all chunks.
        headers: further headers.
    """

    status: int
    content_type: str
    chunks: list[bytes | memoryview]
    size: int
    headers: tuple[tuple[str, str], ...] = ()


def request_id(sent: str | None) -> str:
    """Return the caller's `X-Request-Id` if it is harmless, else a new one."""
    return caller_request_id(sent) or new_request_id()


def caller_request_id(sent: str | None) -> str | None:
    """Return the caller's `X-Request-Id` if it is there and harmless."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else None


def new_request_id() -> str:
    """Return an id that no other request has."""
    return f"{_process}-{next(_counter):x}"


def error_reply(error: PeltonError, of_request: str) -> Reply:
    """Answer with the one error body that every door has."""
    body = error_body(error, of_request)
    if _MAY_BE_SECRET in body:  # such as a key that somebody took for the name of a model
        body = redacted(body.decode("ascii")).encode("ascii")
    return Reply(http_status(error.code), JSON, [body], len(body), error_headers(error))


def error_headers(error: PeltonError) -> tuple[tuple[str, str], ...]:
    """Return the headers that belong to an error, whatever door tells it."""
    if error.code is Code.UNAUTHENTICATED:
        return (CHALLENGE,)
    return retry_headers(error)


def retry_headers(error: PeltonError) -> tuple[tuple[str, str], ...]:
    """Return `Retry-After` where the error knows when another try is sensible."""
    if isinstance(error, Unavailable) and error.retry_after_s is not None:
        return (("retry-after", str(max(1, round(error.retry_after_s)))),)
    return ()
