"""Asks the example server about many pictures at once, from one thread.

    python examples/clients/async_client.py [URL]

Start the server with ./start_server.sh; this program needs only `pip install pelton`.
"""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np

from pelton import AsyncClient, PeltonError

PICTURES = 200


async def main(url: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 17, (PICTURES, 1, 8, 8), np.uint8)
    async with AsyncClient(url) as client:
        started_s = time.perf_counter()
        asked = (client.infer("digits", {"image": picture}) for picture in pictures)
        responses = await asyncio.gather(*asked)
        took_s = time.perf_counter() - started_s

    digits = [int(response.outputs["probabilities"].argmax()) for response in responses]
    print(f"{len(digits)} answers in {took_s * 1000:.0f} ms")
    print("noise looks most often like the digit", max(range(10), key=digits.count))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:50000"))
    except PeltonError as error:
        sys.exit(str(error))
