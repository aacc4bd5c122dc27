"""Replies as values or typed errors."""

from __future__ import annotations

import http
import re
from collections.abc import Mapping
from typing import Any

from pelton.client.http1 import Reply
from pelton.errors import (
    Code,
    ConnectionFailed,
    InvalidRequest,
    ModelFailed,
    PeltonError,
    Unavailable,
    from_code,
)
from pelton.messages import InferResponse, Value
from pelton.wire import oip_client, pickled, strict_json
from pelton.wire.limits import Limits
from pelton.wire.oip_message import parse_header_length
from pelton.wire.status import code_of_http

_SHOWN_CHARS = 2000
_NO_PLACES: Mapping[str, memoryview] = {}
_SECONDS = re.compile(r"[0-9]{1,9}")


def read_yes(reply: Reply, limits: Limits) -> bool:
    """Read the answer to a question that 200 affirms, and that 400, 404 and 503 deny.

    Raises:
        PeltonError: any other status.
    """
    if reply.status in (400, 404, 503):
        return False
    _check_ok(reply, limits)
    return True


def read_json(reply: Reply, limits: Limits) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PeltonError: the server refused; of the class that its code stands for.
        ConnectionFailed: the body is no JSON object.
    """
    value = read_value(reply, limits)
    if not isinstance(value, dict):
        raise ConnectionFailed("the server's answer cannot be read: it is no JSON object")
    return value


def read_value(reply: Reply, limits: Limits) -> object:
    """Read any JSON.

    Raises:
        PeltonError: the server refused; of the class that its code stands for.
        ConnectionFailed: the body is no JSON.
    """
    _check_ok(reply, limits)
    try:
        return strict_json.loads(reply.body, limits)
    except InvalidRequest as problem:
        raise ConnectionFailed(f"the server's answer cannot be read: {problem}") from problem


def read_regions(reply: Reply, limits: Limits) -> set[tuple[str, str]]:
    """Read the list of registered regions: name and key of each.

    Raises:
        PeltonError: the server refused; of the class that its code stands for.
        ConnectionFailed: the body is no such list.
    """
    _check_ok(reply, limits)
    try:
        rows = strict_json.loads(reply.body, limits)
        return {(str(row["name"]), str(row["key"])) for row in rows}
    except (InvalidRequest, TypeError, KeyError) as problem:
        raise ConnectionFailed("the server's list of regions cannot be read") from problem


def read_nothing(reply: Reply, limits: Limits) -> None:
    """Read the answer to a command, which says nothing where it was followed.

    Raises:
        PeltonError: the server refused; of the class that its code stands for.
    """
    _check_ok(reply, limits)


def read_infer(
    reply: Reply, limits: Limits, places: Mapping[str, memoryview] = _NO_PLACES
) -> InferResponse:
    """Read an inference response of the Open Inference Protocol.

    Args:
        reply: the reply.
        limits: what may come.
        places: output name -> the shared memory in which the request wanted it.

    Returns:
        The response; its arrays are views of the reply's body, or of shared memory.

    Raises:
        PeltonError: the server refused; of the class that its code stands for.
        ConnectionFailed: the body is no inference response.
    """
    _check_ok(reply, limits)
    length = reply.headers.get("inference-header-content-length")
    try:
        header_bytes = None if length is None else parse_header_length(length)
    except InvalidRequest as problem:
        raise ConnectionFailed(f"the server's answer cannot be read: {problem}") from problem
    return oip_client.decode_response(reply.body, header_bytes, limits, places)


def read_output(reply: Reply, limits: Limits) -> Value:
    """Read the pickled answer of `POST /infer`: the value of `output`.

    Returns:
        What the model returned; arrays are views of the reply's body.

    Raises:
        PeltonError: the server or the model refused.
        ConnectionFailed: the body is no such answer.
    """
    _check_ok(reply, limits)
    said = _unpickled(reply, limits)
    if not isinstance(said, Mapping) or said.get("status") not in ("ok", "error"):
        raise ConnectionFailed('the server\'s answer has no "status", which is "ok" or "error"')
    if said["status"] == "error":
        raise ModelFailed(f"{said.get('message', 'the model failed')!s:.{_SHOWN_CHARS}}")
    return said.get("output")


def error_of(reply: Reply, limits: Limits) -> PeltonError:
    """Rebuild the error that a server told.

    Where the body is none of ours (a proxy's page, say), the status decides and the sentence
    tells it.
    """
    said = _error_body(reply, limits)
    message = said.get("error") or said.get("message")
    if not isinstance(message, str):
        message = _status_sentence(reply)
    try:
        code = Code(str(said.get("code")))
    except ValueError:
        code = code_of_http(reply.status)
    error = from_code(code, message[:_SHOWN_CHARS])
    if isinstance(error, Unavailable):
        error.retry_after_s = _retry_after_s(reply)
    return error


def _check_ok(reply: Reply, limits: Limits) -> None:
    if reply.status != 200:
        raise error_of(reply, limits)
    coding = reply.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise ConnectionFailed(f"the answer is compressed ({coding:.40}), which nobody asked for")


def _error_body(reply: Reply, limits: Limits) -> Mapping[str, object]:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = {"application/json": strict_json.loads, "application/octet-stream": _unpickle}.get(kind)
    if read is None:
        return {}
    try:
        said = read(reply.body, limits)
    except InvalidRequest:
        return {}
    return said if isinstance(said, dict) else {}


def _unpickle(body: memoryview, limits: Limits) -> Value:
    return pickled.decode(body, limits)[0]


def _unpickled(reply: Reply, limits: Limits) -> Value:
    try:
        return _unpickle(reply.body, limits)
    except InvalidRequest as problem:
        raise ConnectionFailed(f"the server's answer cannot be read: {problem}") from problem


def _status_sentence(reply: Reply) -> str:
    try:
        phrase = f"{reply.status} {http.HTTPStatus(reply.status).phrase}"
    except ValueError:
        phrase = str(reply.status)
    return f"the answer was {phrase}, without Pelton's error body; is the URL a Pelton server's?"


def _retry_after_s(reply: Reply) -> float | None:
    """Read `Retry-After` in its form of seconds; a date would need the two clocks to agree."""
    seconds = reply.headers.get("retry-after", "")
    return float(seconds) if _SECONDS.fullmatch(seconds) else None
