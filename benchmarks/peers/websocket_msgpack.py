"""A policy server as openpi builds it: WebSocket, msgpack with numpy arrays, nothing compressed.

python websocket_msgpack.py PORT
"""

from __future__ import annotations

import asyncio
import sys

import msgpack
import msgpack_numpy
from observation import model_inference
from websockets.asyncio.server import ServerConnection, serve


async def answer(connection: ServerConnection) -> None:
    async for message in connection:
        obs = msgpack.unpackb(message, object_hook=msgpack_numpy.decode)
        action = {"actions": model_inference(obs)}
        await connection.send(msgpack.packb(action, default=msgpack_numpy.encode))


async def main(port: int) -> None:
    async with serve(answer, "127.0.0.1", port, compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
