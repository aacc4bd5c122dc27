"""HTTP/1.1 over a bare socket: tests say exactly which bytes go out, and read what comes back.

with Wire(server.port) as wire:
    wire.send(b"GET /v2 HTTP/1.1\r\nHost: test\r\n\r\n")
    reply = wire.reply()
    assert reply.status == 200
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_S = 20.0
"""Longest wait for one read; no check needs a tenth of it."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """One response.

    Attributes:
        status: HTTP status.
        headers: lower-case name -> value.
        body: as it came, still compressed if it was.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection to a server on this machine.

    Attributes:
        socket: the socket itself.
    """

    def __init__(self, port: int | Path, receive_buffer_bytes: int | None = None) -> None:
        """Connect.

        Args:
            port: of 127.0.0.1; or the file of a Unix socket.
            receive_buffer_bytes: size of the kernel's buffer on this side, for slow readers.
        """
        unix = isinstance(port, Path)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(WAIT_S)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(str(port) if unix else ("127.0.0.1", port))
        self._received = bytearray()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.socket.sendall(data)

    def send_while_taken(self, data: bytes) -> None:
        """Send as much as the server takes; it may refuse and close before the end."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def finish_sending(self) -> None:
        """Half-close: nothing more will be sent, answers are still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reply(self, method: str = "POST") -> RawReply:
        """Read one response, past any `100 Continue`.

        Args:
            method: of the request; the answer to HEAD has no body.

        Raises:
            AssertionError: the server closed instead, or this is no response.
        """
        while True:
            head = self.head()
            if head.status != 100:
                break
        if method == "HEAD":
            return head
        if head.headers.get("transfer-encoding") == "chunked":
            return RawReply(head.status, head.headers, self._chunked())
        return RawReply(head.status, head.headers, self._take(int(head.headers["content-length"])))

    def head(self) -> RawReply:
        """Read the head of one response, of `100 Continue` too."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header is there twice: {pairs}"
        return RawReply(int(status), headers, b"")

    def ask(self, data: bytes) -> RawReply:
        """Send one request and read its response."""
        self.send_while_taken(data)
        return self.reply()

    def rest(self) -> bytes:
        """Read to the end of the connection: what came behind the last response.

        A reset counts as the end: a server may close with bytes unread.
        """
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self._received += data
        rest = bytes(self._received)
        self._received.clear()
        return rest

    def all_replies(self) -> list[RawReply]:
        """Read responses until the server closes."""
        found = []
        with contextlib.suppress(ConnectionError):
            while self._received or self._more():
                found.append(self.reply())
        return found

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self._received += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        searched = 0
        while (at := self._received.find(mark, max(0, searched - len(mark)))) < 0:
            searched = len(self._received)
            assert self._more(), f"the server closed after {bytes(self._received)!r:.200}"
        end = at + len(mark)
        found = bytes(self._received[:end])
        del self._received[:end]
        return found

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            assert self._more(), f"closed after {len(self._received)} of {size} bytes"
        found = bytes(self._received[:size])
        del self._received[:size]
        return found

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._take(size)
            assert self._take(2) == b"\r\n"
        assert self._take(2) == b"\r\n"
        return body


Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def head_bytes(method: str, path: str, headers: Headers = ()) -> bytes:
    """Write a request's head, with a Host and nothing else that is not asked for."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{k}: {v}" for k, v in pairs)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def plain(path: str, body: bytes, headers: Headers = (), method: str = "POST") -> bytes:
    """Write a request whose body's length is told by Content-Length."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    return head_bytes(method, path, [*pairs, ("Content-Length", str(len(body)))]) + body


def chunked(
    path: str, body: bytes, headers: Headers = (), chunk_bytes: int = 1 << 16, method: str = "POST"
) -> bytes:
    """Write the same request in chunks."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    head = head_bytes(method, path, [*pairs, ("Transfer-Encoding", "chunked")])
    return head + as_chunks(body, chunk_bytes)


def as_chunks(body: bytes, chunk_bytes: int = 1 << 16) -> bytes:
    """Write a body in chunks, with the last, empty one."""
    parts = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def get(path: str, headers: Headers = ()) -> bytes:
    """Write a GET."""
    return head_bytes("GET", path, headers)
