"""The floor: receive N bytes into one buffer that is already there, answer 384 bytes.

    python bare_tcp.py PORT

A request is a length (8 bytes, little-endian) and that many bytes. One thread and blocking calls;
each call takes whatever has come. Waiting for all bytes in one call (`MSG_WAITALL`) or taking them
in pieces of a fixed size is not quicker.
"""

from __future__ import annotations

import socket
import struct
import sys

LARGEST_BYTES = 64 * 2**20
ANSWER = bytes(16 * 6 * 4)


def main(port: int) -> None:
    buffer = memoryview(bytearray(b"\1") * LARGEST_BYTES)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _answer_all(connection, buffer)


def _answer_all(connection: socket.socket, buffer: memoryview) -> None:
    while connection.recv_into(buffer, 8, socket.MSG_WAITALL) == 8:
        (size,) = struct.unpack_from("<Q", buffer)
        received = 0
        while received < size:
            count = connection.recv_into(buffer[received:size])
            if count == 0:
                return
            received += count
        connection.sendall(ANSWER)


if __name__ == "__main__":
    main(int(sys.argv[1]))
