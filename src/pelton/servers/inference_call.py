"""What the head of an inference says: which endpoint, which model, how long there is for it.

A client on a kept connection sends the same head with each request. So it is read into one
record, once, and what is done for every request is left with the body and the clock.

`X-Request-Timeout-Ms: 250` asks for an answer within so many milliseconds of the request's first
byte. `X-Pelton-Timing: 1` asks for a header of the same name, which tells where the time went.
`X-Pelton-Key` says in UTF-8 whom the request is for, to whoever splits traffic.
`X-Pelton-Signature` makes the body a signed object (`docs/trusted-objects.md`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs

from pelton.clock import Clock
from pelton.errors import Code, DeadlineExceeded, InvalidRequest
from pelton.routing.unit import HEADER as KEY_HEADER
from pelton.servers.origin import Origin
from pelton.servers.replies import caller_request_id
from pelton.trusted.signing import HEADER as _SIGNATURE
from pelton.wire.oip_message import parse_header_length

_OIP_PATH = re.compile(r"/v2/models/([^/%]+)(?:/versions/([^/%]+))?/infer")
_MILLISECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")

SIGNATURE = _SIGNATURE.lower()
"""The header of signed objects, in lower case."""

Headers = Mapping[str, str]
"""Lower-case name -> value."""


class Target(NamedTuple):
    """Which endpoint a request is for.

    Attributes:
        model: the model in the path; None at `/infer`, where query or header name it.
        version: the version in the path, if any.
        query: the query string.
    """

    model: str | None
    version: str | None = None
    query: str = ""


class SignedHead(NamedTuple):
    """What the head of a signed object says of its signature.

    Attributes:
        signature: value of the header.
        target: path and query as they stand in the request line.
    """

    signature: str
    target: str


@dataclass(frozen=True, slots=True)
class InferenceCall:
    """The head of one inference, read.

    Attributes:
        model: the model that the path names, or at `/infer` the query or a header; None for none.
        version: the version in the path, if any.
        at_infer: whether it is for `/infer` and not for an endpoint of the protocol.
        content_type: the media type as it came, or None.
        header_bytes: value of `Inference-Header-Content-Length`, or None.
        timeout_s: how long the caller waits; infinity where it does not say.
        timing: whether a header shall tell where the time went.
        key: whom the request is for; empty where that is not said.
        request_id: the caller's own id, if it is harmless; None for a new one.
        signed: the signature of what the body holds; None for data, which needs none.
        wrong: what is wrong with the head, to be told as the answer; None for nothing.
    """

    model: str | None
    version: str | None
    at_infer: bool
    content_type: str | None
    header_bytes: int | None = None
    timeout_s: float = math.inf
    timing: bool = False
    key: str = ""
    request_id: str | None = None
    signed: SignedHead | None = None
    wrong: InvalidRequest | None = None


def inference_target(path: str, query: str) -> Target | None:
    """Return the inference endpoint that a path names, or None for any other path."""
    if path == "/infer":
        return Target(None, None, query)
    found = _OIP_PATH.fullmatch(path)
    return Target(found[1], found[2], query) if found else None


def read_call(target: Target, headers: Headers, raw_target: str = "") -> InferenceCall:
    """Read the head of an inference.

    Args:
        target: the endpoint.
        headers: of the request.
        raw_target: path and query as they stand in the request line, which may be signed.

    Returns:
        The call; what is wrong in the headers is in it, and never raised.
    """
    at_infer = target.model is None
    call = functools.partial(
        InferenceCall,
        model=_named_model(target.query, headers) if at_infer else target.model,
        version=target.version,
        at_infer=at_infer,
        content_type=headers.get("content-type"),
        request_id=caller_request_id(headers.get("x-request-id")),
        signed=SignedHead(headers[SIGNATURE], raw_target) if SIGNATURE in headers else None,
    )
    try:
        return call(
            header_bytes=None if at_infer else _header_bytes(headers),
            timeout_s=_timeout_s(headers),
            timing=headers.get("x-pelton-timing") == "1",
            key=_key(headers),
        )
    except InvalidRequest as error:
        return call(wrong=error)


def deadline_of(call: InferenceCall, origin: Origin, clock: Clock) -> float:
    """Return when the answer is of no use any more, on the clock; infinity for never.

    Raises:
        InvalidRequest: what is wrong with the head.
        DeadlineExceeded: it is that late already.
    """
    if call.wrong is not None:
        raise call.wrong.with_traceback(None)
    deadline_s = origin.arrived_s + call.timeout_s
    if deadline_s != math.inf and deadline_s <= clock():
        raise DeadlineExceeded("the time that the request allowed was over before it was read")
    return deadline_s


def refuse_coding(headers: Headers) -> None:
    """Refuse a signed object that would have to be decompressed before it can be trusted.

    Raises:
        InvalidRequest: `UNSUPPORTED_MEDIA`.
    """
    if SIGNATURE in headers and "content-encoding" in headers:
        raise InvalidRequest(
            "a signed object is sent as it was signed, without Content-Encoding",
            Code.UNSUPPORTED_MEDIA,
        )


def wants_compression(headers: Headers) -> str | None:
    """Return the coding that the caller asks the reply to be in, or None.

    HTTP libraries list all codings that they could read in every request. Compressing tensors
    for each of them would cost far more time than it saves, so only an `Accept-Encoding` that
    names exactly one coding counts as asking.
    """
    coding = headers.get("accept-encoding", "").strip().lower()
    return coding if coding in ("gzip", "deflate") else None


def _named_model(query: str, headers: Headers) -> str | None:
    return parse_qs(query).get("model", [None])[0] or headers.get("x-pelton-model") or None


def _header_bytes(headers: Headers) -> int | None:
    length = headers.get("inference-header-content-length")
    return None if length is None else parse_header_length(length)


def _key(headers: Headers) -> str:
    try:
        return headers.get(KEY_HEADER, "").encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the header X-Pelton-Key is no UTF-8") from None


def _timeout_s(headers: Headers) -> float:
    told = headers.get("x-request-timeout-ms")
    if told is None:
        return math.inf
    timeout_ms = float(told) if _MILLISECONDS.fullmatch(told) else 0.0
    if not timeout_ms:
        raise InvalidRequest(
            f"X-Request-Timeout-Ms is {told!r:.40}, but must be a positive number of milliseconds"
        )
    return timeout_ms / 1000
