"""Where an answer ends, in the protocols that the load generator speaks."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Protocol

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Reply:
    """What is known of an answer as soon as its head is there.

    Attributes:
        status: HTTP's status; 200 for any message of a WebSocket.
        start: where its body starts.
        end: where it ends.
        last: whether the server closes the connection behind it.
    """

    status: int
    start: int
    end: int
    last: bool = False


class Framing(Protocol):
    """One protocol, over one kept connection."""

    def open(self, connection: socket.socket) -> None:
        """Say what has to be said before the first request; the socket blocks meanwhile."""

    def wrap(self, request: bytes) -> bytes:
        """Return a request as it goes over the wire."""

    def find(self, received: bytearray, filled: int) -> Reply | None:
        """Return the answer that begins the received bytes, or None for too few of them."""


class Http:
    """HTTP/1.1 with lengths. Heads are remembered: a server writes nearly always the same."""

    def __init__(self) -> None:
        self._known: dict[bytes, Reply] = {}

    def open(self, connection: socket.socket) -> None:
        """HTTP begins with the request."""

    def wrap(self, request: bytes) -> bytes:
        """Return the request itself: it is whole."""
        return request

    def find(self, received: bytearray, filled: int) -> Reply | None:
        """Read status and length; headers must be ASCII and there must be a length."""
        end = received.find(b"\r\n\r\n", 0, filled)
        if end < 0:
            return None
        head = bytes(received[:end])
        reply = self._known.get(head)
        if reply is None:
            lines = head.lower().split(b"\r\n")
            fields = dict(line.split(b":", 1) for line in lines[1:])
            size = int(fields[b"content-length"])
            last = fields.get(b"connection", b"").strip() == b"close"
            reply = Reply(int(lines[0].split()[1]), end + 4, end + 4 + size, last)
            if len(self._known) < 1000:
                self._known[head] = reply
        return reply


class WebSocket:
    """RFC 6455, one binary message each way; nothing fragmented, answers below 64 KiB."""

    def open(self, connection: socket.socket) -> None:
        """Shake hands.

        Raises:
            ConnectionError: the server does not want to.
        """
        connection.sendall(UPGRADE)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            more = connection.recv(1)
            if not more:
                break
            answer += more
        if b" 101 " not in answer:
            raise ConnectionError(answer[:200].decode("latin-1"))

    def wrap(self, request: bytes) -> bytes:
        """Return a binary frame; its mask is zero, which leaves the bytes as they are."""
        mask = bytes(4)
        if len(request) < 126:
            return bytes([0x82, 0x80 | len(request)]) + mask + request
        return struct.pack("!BBH", 0x82, 0x80 | 126, len(request)) + mask + request

    def find(self, received: bytearray, filled: int) -> Reply | None:
        """Read the length of a frame."""
        if filled < 4:
            return None
        size, start = received[1], 2
        if size == 126:
            size, start = int.from_bytes(received[2:4], "big"), 4
        return Reply(200, start, start + size)


FRAMINGS: dict[str, type[Http] | type[WebSocket]] = {"http": Http, "websocket": WebSocket}
