"""The picture in memory that client and server share, over a Unix socket.

    python pelton_shared.py PORT SOCKET

The port is not used: every client of this scenario is given one.
"""

from __future__ import annotations

import sys
from typing import Any

from drive import Ask, Image, take_orders

import pelton

MODEL = "pixels"


def main(socket: str) -> None:
    with pelton.Client(f"unix:{socket}", shared_memory=True) as client:

        def prepare(image: Image) -> Ask:
            shared = client.empty(image.shape, image.dtype)
            shared[...] = image

            def ask() -> Any:
                return client.infer(MODEL, {"image": shared}).outputs["actions"]

            return ask

        take_orders(prepare)


if __name__ == "__main__":
    main(sys.argv[2])
