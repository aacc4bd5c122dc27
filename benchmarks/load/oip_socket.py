"""Open Inference Protocol with binary tensors from a bare socket: measures the server alone.

    python oip_socket.py PORT MODEL

Head and JSON are made once for each size of picture; the answer is read whole and checked.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import numpy as np
import oip
from bare_tcp import send_all
from drive import Ask, Image, take_orders


class Answers:
    """Reads HTTP answers with a known length from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(64 * 1024)

    def next_body(self) -> tuple[bytes, int]:
        """Return the next answer's body and the length of its JSON."""
        view, filled, end = memoryview(self._buffer), 0, -1
        while end < 0:
            filled += self._receive(view[filled:])
            end = self._buffer.find(b"\r\n\r\n", 0, filled)
        head = bytes(view[:end])
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(bytes(view[:filled]).decode("latin-1"))
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        start, size = end + 4, int(fields[b"content-length"])
        while filled < start + size:
            filled += self._receive(view[filled:])
        json_bytes = int(fields.get(b"inference-header-content-length", size))
        return bytes(view[start : start + size]), json_bytes

    def _receive(self, free: memoryview) -> int:
        count = self._connection.recv_into(free)
        if count == 0:
            raise ConnectionError("the server hung up")
        return count


def main(port: int, model: str) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = Answers(connection)

    def prepare(image: Image) -> Ask:
        head, body = oip.head(model, "image", image, {}), image.data.cast("B")

        def ask() -> Any:
            send_all(connection, head, body)
            answer, json_bytes = answers.next_body()
            return np.frombuffer(answer, np.float32, offset=json_bytes).reshape(16, 6)

        return ask

    take_orders(prepare)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
