"""Writes the head of an HTTP/1.1 response."""

from __future__ import annotations

import functools
import http
from collections.abc import Iterable

from pelton.servers.replies import Reply

_STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}


def response_head(
    reply: Reply, keep_alive: bool, default_headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return everything up to and including the empty line.

    Args:
        reply: the answer; its own headers hold no line breaks, for they are the server's words.
        keep_alive: whether the connection goes on.
        default_headers: what every response carries, such as the date.
    """
    head = _own_lines(reply.status, reply.content_type, reply.size, reply.headers, keep_alive)
    for key, data in default_headers:
        head += b"%b: %b\r\n" % (key, data)
    return head + b"\r\n"


@functools.lru_cache(maxsize=256)
def _own_lines(
    status: int,
    content_type: str,
    size: int,
    headers: tuple[tuple[str, str], ...],
    keep_alive: bool,
) -> bytes:
    lines = f"content-type: {content_type}\r\ncontent-length: {size}\r\n"
    for name, value in headers:
        lines += f"{name}: {value}\r\n"
    if not keep_alive:
        lines += "connection: close\r\n"
    return _STATUS_LINES[status] + lines.encode("latin-1")
