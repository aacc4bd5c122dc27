"""A server that does exactly as it is told, byte for byte, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 20.0
"""After this long a test has hung; reached only by a broken client."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Received:
    """One request as it came.

    Attributes:
        connection: number of the connection, from 0.
        head: everything up to and including the empty line.
        body: the body, as far as it was read.
    """

    connection: int
    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def tensors(self) -> tuple[dict, bytes]:
        """The JSON and the binary part of an inference request."""
        length = int(self.headers.get("inference-header-content-length", len(self.body)))
        return json.loads(self.body[:length]), self.body[length:]


@dataclass(frozen=True)
class Answer:
    """What the peer does with one request.

    Attributes:
        pieces: written one after the other, each as a packet of its own; or what makes them of
            the request.
        then: `keep` the connection, `close` it, or `reset` it (no goodbye, nothing more is read).
        reads_body: whether the request's body is read before the answer.
        holds: whether nothing more happens after the pieces until the test ends.
        drips: written over and over after the pieces, a hundred times a second, until then.
    """

    pieces: Sequence[bytes] | Callable[[Received], Sequence[bytes]] = ()
    then: str = "keep"
    reads_body: bool = True
    holds: bool = False
    drips: bytes = b""


class ScriptedPeer:
    """Listens on a free port of the loopback or on a Unix socket, and follows a script.

    Attributes:
        received: the requests so far.
        closed: for each scripted connection, set once the peer has closed it.
    """

    def __init__(
        self,
        *script: Sequence[Answer],
        tls: ssl.SSLContext | None = None,
        family: socket.AddressFamily = socket.AF_INET,
        path: Path | None = None,
    ) -> None:
        """Listen.

        Args:
            script: one list of answers for each connection, in the order in which they come;
                where a list ends, its connection is closed.
            tls: makes it an `https` server.
            family: IPv4 or IPv6.
            path: of the Unix socket to listen on instead.
        """
        self.received: list[Received] = []
        self._arrival = threading.Condition()
        self.closed = [threading.Event() for _ in script]
        self._script = script
        self._tls = tls
        self._host = "::1" if family is socket.AF_INET6 else "127.0.0.1"
        self._path = path
        if path is None:
            self._listener = socket.create_server((self._host, 0), family=family)
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
        self._leaving = threading.Event()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> ScriptedPeer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():  # it may be waiting for a connection that never came
            with contextlib.suppress(OSError):
                self._knock()
        self._thread.join(PATIENCE_S)
        self._listener.close()
        assert not self._thread.is_alive()

    def _knock(self) -> None:
        if self._path is None:
            socket.create_connection((self._host, self.port), PATIENCE_S).close()
        else:
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.connect(str(self._path))

    @property
    def url(self) -> str:
        if self._path is not None:
            return f"unix:{self._path}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def lines(self) -> list[str]:
        """The request lines so far."""
        return [request.line for request in self.received]

    def wait_received(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._arrival:
            assert self._arrival.wait_for(lambda: len(self.received) >= count, PATIENCE_S)

    def wait_closed(self, number: int) -> None:
        """Wait until the peer has closed a connection."""
        assert self.closed[number].wait(PATIENCE_S)

    @property
    def connections(self) -> list[int]:
        """The number of the connection that each request came on."""
        return [request.connection for request in self.received]

    def _follow(self) -> None:
        threads = []
        for number, answers in enumerate(self._script):
            connection, _ = self._listener.accept()
            if self._leaving.is_set():
                connection.close()
                break
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(number, connection, answers))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(PATIENCE_S)

    def _serve(self, number: int, connection: socket.socket, answers: Sequence[Answer]) -> None:
        connection.settimeout(PATIENCE_S)
        if self._path is None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that hangs up at once is what some tests are about.
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            for answer in answers:
                if not self._answer(number, connection, answer):
                    break
        connection.close()
        self.closed[number].set()

    def _answer(self, number: int, connection: socket.socket, answer: Answer) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return False
            head += byte
        request = Received(number, head)
        if answer.reads_body:
            request.body = _read(connection, int(request.headers.get("content-length", 0)))
        with self._arrival:
            self.received.append(request)
            self._arrival.notify_all()
        pieces = answer.pieces(request) if callable(answer.pieces) else answer.pieces
        for piece in pieces:
            connection.sendall(piece)
        if answer.holds:
            self._leaving.wait(PATIENCE_S)
        while answer.drips and not self._leaving.wait(0.01):
            connection.sendall(answer.drips)
        if answer.then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return answer.then == "keep"


def _read(connection: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = connection.recv(min(65536, size - len(body)))
        if not piece:
            break
        body += piece
    return bytes(body)


def reply(body: bytes = b"", status: str = "200 OK", **headers: object) -> bytes:
    """Write a whole reply; underscores in header names stand for dashes."""
    headers.setdefault("content_length", len(body))
    fields = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


def json_reply(said: object, status: str = "200 OK", **headers: object) -> bytes:
    """Write a reply whose body is JSON."""
    body = json.dumps(said).encode()
    return reply(body, status, content_type="application/json", **headers)


def infer_reply(*outputs: tuple[str, str, list[int], bytes], **fields: object) -> bytes:
    """Write an inference response whose outputs (name, datatype, shape, bytes) are binary."""
    entries = [
        {
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(raw)},
        }
        for name, datatype, shape, raw in outputs
    ]
    said = {"model_name": "m", "model_version": "1", "outputs": entries, **fields}
    header = json.dumps(said).encode()
    body = header + b"".join(raw for _, _, _, raw in outputs)
    return reply(
        body,
        content_type="application/octet-stream",
        inference_header_content_length=len(header),
    )
