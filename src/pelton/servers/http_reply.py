"""Writes the head of an HTTP/1.1 response."""

from __future__ import annotations

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
    lines = f"content-type: {reply.content_type}\r\ncontent-length: {reply.size}\r\n"
    for name, value in reply.headers:
        lines += f"{name}: {value}\r\n"
    if not keep_alive:
        lines += "connection: close\r\n"
    head = _STATUS_LINES[reply.status] + lines.encode("latin-1")
    for key, data in default_headers:
        head += key + b": " + data + b"\r\n"
    return head + b"\r\n"
