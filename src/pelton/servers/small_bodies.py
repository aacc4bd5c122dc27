"""JSON bodies of requests that change something: small, strict, and read only so far."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from pelton.errors import Code, InvalidRequest
from pelton.wire import strict_json
from pelton.wire.limits import Limits

MAX_BYTES = 16 * 1024
"""Of a body: enough for the longest policy several times."""

_LIMITS = Limits(max_json_bytes=MAX_BYTES, max_json_depth=16)


async def small_json(request: Request) -> Any:
    """Receive a body and read it as JSON.

    Raises:
        InvalidRequest: it is too long (`TOO_LARGE`), compressed (`UNSUPPORTED_MEDIA`), or no strict
            JSON (`MALFORMED_REQUEST`); or the client has hung up, and nobody will read this.
    """
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise InvalidRequest(
            f"the body is compressed ({coding:.40}); send it plain", Code.UNSUPPORTED_MEDIA
        )
    received = bytearray()
    try:
        async for piece in request.stream():
            received += piece
            if len(received) > MAX_BYTES:
                raise InvalidRequest(f"the body has more than {MAX_BYTES} bytes", Code.TOO_LARGE)
    except ClientDisconnect:
        raise InvalidRequest("the client hung up before its request was complete") from None
    return strict_json.loads(bytes(received), _LIMITS)
