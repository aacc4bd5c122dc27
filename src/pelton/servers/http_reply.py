"""Writes HTTP/1.1 responses."""

from __future__ import annotations

import functools
import http
from collections.abc import Iterable

from pelton.servers.replies import Reply

_STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}


_JOINED_BYTES = 16 * 1024
"""Up to this size, copying an answer into one piece is quicker than writing several."""


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are written."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def response_pieces(
    reply: Reply, keep_alive: bool, default_lines: bytes
) -> list[bytes | memoryview]:
    """Return a whole response; big pieces are the reply's own.

    Args:
        reply: the answer; its own headers hold no line breaks, for they are the server's words.
        keep_alive: whether the connection goes on.
        default_lines: headers that every response carries, such as the date, as lines.
    """
    head = _own_lines(reply.status, reply.content_type, reply.size, reply.headers, keep_alive)
    if reply.size <= _JOINED_BYTES:
        return [b"".join((head, default_lines, b"\r\n", *reply.chunks))]
    return [head + default_lines + b"\r\n", *reply.chunks]


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
