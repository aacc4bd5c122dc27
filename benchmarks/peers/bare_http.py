"""The limit of any server that is one Python process: the bytes of an answer, at once.

    python bare_http.py PORT

An event loop (uvloop) that neither parses nor computes; it counts in what it reads how many
requests began.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

JSON = (
    b'{"model_name":"small","model_version":"1","outputs":[{"name":"y","datatype":"FP32",'
    b'"shape":[1,8],"parameters":{"binary_data_size":32}}]}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n%b%b"
) % (len(JSON), len(JSON) + 32, JSON, bytes(32))


class Answering(asyncio.Protocol):
    """Writes the same answer for whatever comes."""

    _transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        # uvloop's transports can write, but are none of asyncio's classes for it.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._transport.write(ANSWER * data.count(b"POST /"))


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
