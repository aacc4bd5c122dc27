"""What `POST /infer` answers, in the format in which it was asked."""

from __future__ import annotations

import functools
import logging

from pelton.errors import Code, ModelFailed, PeltonError
from pelton.messages import InferResponse
from pelton.servers.replies import Reply, retry_headers
from pelton.servers.user_formats import Format
from pelton.wire.plain import error_value
from pelton.wire.status import http_status

logger = logging.getLogger("pelton.inference")

Headers = tuple[tuple[str, str], ...]


def headers_of(response: InferResponse) -> Headers:
    """Return the headers of any answer."""
    if not response.digest:
        return response.notes
    return (*response.notes, ("x-pelton-digest", response.digest))


@functools.lru_cache(maxsize=256)
def answered_by(model: str, version: str) -> Headers:
    """Return the headers that name who answered, where the body does not."""
    return ("x-pelton-model", model), ("x-pelton-version", version)


def told(error: PeltonError, log_id: str) -> tuple[object, int, Headers]:
    """Return what is said of an error to a caller whose body could be read, status and headers."""
    log_failure(error, log_id)
    said = error_value(error.message) | {
        "error": error.message,
        "code": str(error.code),
        "request_id": log_id,
    }
    return said, http_status(error.code), retry_headers(error)


def encoded(form: Format, said: object, style: object, status: int, extra: Headers) -> Reply:
    """Return a reply.

    Args:
        form: the format that was asked in.
        said: the value.
        style: the style in which the caller wrote.
        status: of HTTP.
        extra: further headers.

    Raises:
        ModelFailed: the value is nothing that the format can hold.
    """
    try:
        chunks = form.encode(said, style)
    except TypeError as error:
        raise ModelFailed(f"the model's output cannot be sent: {error}") from error
    return Reply(status, form.media_type, chunks, sum(map(len, chunks)), extra)


def log_failure(error: PeltonError, log_id: str) -> None:
    """Write down what the caller is not told."""
    if error.code in (Code.MODEL_FAILED, Code.INTERNAL):
        logger.error("request %s: %s", log_id, error.message, exc_info=error.__cause__)
