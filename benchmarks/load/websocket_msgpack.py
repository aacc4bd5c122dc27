"""Observations in msgpack over one WebSocket, as openpi's client sends them."""

from __future__ import annotations

import sys
from typing import Any

import msgpack
import msgpack_numpy
from drive import Ask, Image, observation, take_orders
from websockets.sync.client import connect


def main(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as connection:

        def prepare(image: Image) -> Ask:
            obs = observation(image)

            def ask() -> Any:
                connection.send(msgpack.packb(obs, default=msgpack_numpy.encode))
                answer = msgpack.unpackb(connection.recv(), object_hook=msgpack_numpy.decode)
                return answer["actions"]

            return ask

        take_orders(prepare)


if __name__ == "__main__":
    main(int(sys.argv[1]))
