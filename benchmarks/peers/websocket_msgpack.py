"""A policy server as openpi builds it: WebSocket, msgpack with numpy arrays, nothing compressed.

    python websocket_msgpack.py PORT [MODEL]

Without the path of an ONNX model it runs the model of the scenario `payload`.
"""

from __future__ import annotations

import asyncio
import sys

import dict_models
import msgpack
import msgpack_numpy
from websockets.asyncio.server import ServerConnection, serve

model = dict_models.chosen(sys.argv[2:])


async def answer(connection: ServerConnection) -> None:
    async for message in connection:
        obs = msgpack.unpackb(message, object_hook=msgpack_numpy.decode)
        action = {"actions": model(obs)}
        await connection.send(msgpack.packb(action, default=msgpack_numpy.encode))


async def main(port: int) -> None:
    async with serve(answer, "127.0.0.1", port, compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
