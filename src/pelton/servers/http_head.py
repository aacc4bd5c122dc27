"""Reads the head of an HTTP/1.1 request strictly, and remembers heads that come again.

llhttp (through httptools) does the parsing. On top of it stand the checks that it leaves out
and that request smuggling lives on: exactly one valid Host, one framing, bounded headers.
The grammar is RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import httptools

from pelton.errors import Code, InvalidRequest
from pelton.servers.inference_call import (
    SIGNATURE,
    Headers,
    InferenceCall,
    inference_target,
    read_call,
    wants_compression,
)

_HOST = re.compile(rb"[A-Za-z0-9._~\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_VERSIONS = {"1.0", "1.1"}
_REFUSED_METHODS = {b"TRACE", b"CONNECT"}

END_OF_HEAD = b"\r\n\r\n"

MAX_TARGET_BYTES = 8192
"""Longest path and query."""

_ALIGNMENT = 16
"""Bytes; where an object of CPython begins, and with it where the contents of `bytes` do."""

_NOTHING = memoryview(b"")

MEMO_HEAD_BYTES = 2048
MEMO_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A head that passed every check.

    Attributes:
        method: as sent, such as `POST`.
        path: the path as sent, still percent-encoded, without the query.
        query: the query as sent, without the question mark.
        headers: lower-case name -> value; a name sent twice holds both, joined by a comma.
        keep_alive: whether the client wants the connection to go on.
        content_length: bytes of the body; None when it is chunked.
        expects_continue: whether the client waits for `100 Continue` before the body.
        takes_interim: whether it may be sent interim responses, as with HTTP/1.1.
        call: the inference that it asks for, if the gate itself can receive and answer that:
            a plain POST; None for all else.
        raw: all of it as it came, with the empty line; empty where it is not remembered.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=False)
    keep_alive: bool
    content_length: int | None
    expects_continue: bool
    takes_interim: bool
    call: InferenceCall | None = None
    raw: bytes = field(default=b"", compare=False, repr=False)


def cut_head(waiting: bytearray, max_bytes: int) -> bytes | None:
    """Take the next head off what has been received.

    Args:
        waiting: received bytes; the head is removed, and empty lines before it (RFC 9112 2.2).
        max_bytes: longest head, without its empty line.

    Returns:
        The head with its empty line, or None while it is not complete.

    Raises:
        InvalidRequest: it is too long, or what there is of it is no HTTP already.
    """
    while waiting.startswith(b"\r\n"):
        del waiting[:2]
    end = waiting.find(END_OF_HEAD)
    if 0 <= end <= max_bytes:
        end += len(END_OF_HEAD)
        head = bytes(waiting[:end])
        del waiting[:end]
        return head
    if len(waiting) > max_bytes:
        raise InvalidRequest(f"the head is longer than {max_bytes} bytes", Code.HEAD_TOO_LARGE)
    if has_begun(waiting) and (not waiting[:1].isupper() or b"\n\n" in waiting):
        raise InvalidRequest("this is not a valid HTTP/1.1 request", Code.MALFORMED_REQUEST)
    return None


def has_begun(waiting: bytearray) -> bool:
    """Tell whether a head has begun; half an empty line before it has not."""
    return len(waiting) > 0 and waiting != b"\r"


class HeadReader:
    """Turns the bytes of a head into a `RequestHead`.

    Identical bytes give the same record without being parsed again, because a client on a
    kept connection sends the same head each time.
    """

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers
        self._memo: dict[bytes, RequestHead] = {}

    def whole(
        self, data: bytes, before: RequestHead | None = None
    ) -> tuple[RequestHead | None, memoryview]:
        """Take bytes apart that are one whole request, with a head that is remembered.

        Args:
            data: what has come.
            before: the head of the request before, which is likely to come again.

        Returns:
            The head and the body; None, for the head, for anything else. The first tensor is on
            an aligned address, as far as CPython puts bytes there.
        """
        head = before
        if head is None or not head.raw or not data.startswith(head.raw):
            head = self._memo.get(data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)])
            if head is None:
                return None, _NOTHING
        start = len(head.raw)
        if head.content_length != len(data) - start:
            return None, _NOTHING
        tensors_at = start if head.call is None else start + (head.call.header_bytes or 0)
        shift = tensors_at % _ALIGNMENT
        if shift:
            # Cheaper than one array after the other that has to be moved.
            return head, memoryview(data[shift:])[start - shift :]
        return head, memoryview(data)[start:]

    def read(self, raw: bytes) -> RequestHead:
        """Parse a head.

        Args:
            raw: everything up to and including the empty line.

        Raises:
            InvalidRequest: the head breaks the protocol or a limit; the connection cannot go on.
        """
        head = self._memo.get(raw)
        if head is None:
            head = _checked_head(_parse(raw, self._max_headers))
            if len(raw) <= MEMO_HEAD_BYTES and SIGNATURE not in head.headers:
                if len(self._memo) >= MEMO_ENTRIES:
                    self._memo.clear()
                head = self._memo[raw] = replace(head, raw=raw)
        return head


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return lower-case name -> value; a name sent twice holds both (RFC 9110 5.3)."""
    values: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")
        values[key] = f"{values[key]}, {text}" if key in values else text
    return values


class _Fields:
    """What llhttp calls back with."""

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers
        self.target = b""
        self.method = b""
        self.version = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._max_headers:
            raise InvalidRequest(
                f"more than {self._max_headers} headers; send fewer", Code.HEAD_TOO_LARGE
            )
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _parse(raw: bytes, max_headers: int) -> _Fields:
    fields = _Fields(max_headers)
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        refused = error.__context__
        if isinstance(refused, InvalidRequest):
            raise refused from None
        raise InvalidRequest(
            "this is not a valid HTTP/1.1 request", Code.MALFORMED_REQUEST
        ) from None
    fields.method = parser.get_method()
    fields.version = parser.get_http_version()
    # llhttp lets a fragment pass, on which parsers of URLs differ, and other versions.
    if not fields.complete or fields.version not in _VERSIONS or b"#" in fields.target:
        raise InvalidRequest("this is not a valid HTTP/1.1 request", Code.MALFORMED_REQUEST)
    return fields


def _checked_head(fields: _Fields) -> RequestHead:
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields.headers:
        values.setdefault(name, []).append(value)
    if fields.method in _REFUSED_METHODS:
        raise InvalidRequest("Method Not Allowed", Code.METHOD_NOT_ALLOWED)
    if len(fields.target) > MAX_TARGET_BYTES:
        raise InvalidRequest(f"the path is longer than {MAX_TARGET_BYTES} bytes", Code.URI_TOO_LONG)
    _check_host(values.get(b"host", []), fields.version)
    length = _content_length(values)
    method = fields.method.decode("ascii")
    path, _, query = fields.target.decode("latin-1").partition("?")
    headers = joined(fields.headers)
    plain = method == "POST" and length is not None
    return RequestHead(
        method=method,
        path=path,
        query=query,
        headers=headers,
        keep_alive=fields.version == "1.1" and not _has_token(values, b"connection", b"close"),
        content_length=length,
        takes_interim=fields.version == "1.1",
        expects_continue=fields.version == "1.1" and _has_token(values, b"expect", b"100-continue"),
        call=_direct_call(fields.target.decode("latin-1"), headers) if plain else None,
    )


def _direct_call(raw_target: str, headers: Headers) -> InferenceCall | None:
    if "content-encoding" in headers or wants_compression(headers):
        return None
    path, _, query = raw_target.partition("?")
    target = inference_target(path, query)
    return read_call(target, headers, raw_target) if target is not None else None


def _check_host(hosts: list[bytes], version: str) -> None:
    if not hosts and version == "1.0":
        return
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidRequest("send exactly one valid Host header", Code.MALFORMED_REQUEST)


def _has_token(values: dict[bytes, list[bytes]], name: bytes, token: bytes) -> bool:
    """Tell whether a header whose value is a comma-separated list names a token."""
    listed = b",".join(values.get(name, [])).lower()
    return token in [each.strip(b" \t") for each in listed.split(b",")]


def _content_length(values: dict[bytes, list[bytes]]) -> int | None:
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise InvalidRequest(
                "send Content-Length or Transfer-Encoding, not both", Code.MALFORMED_REQUEST
            )
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise InvalidRequest(
                "the only Transfer-Encoding understood is chunked", Code.MALFORMED_REQUEST
            )
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise InvalidRequest(
            "Content-Length must be one plain decimal number", Code.MALFORMED_REQUEST
        )
    return int(lengths[0])
