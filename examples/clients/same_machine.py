"""Has 20,000 pictures of digits read by a server on this machine, without sending them anywhere.

    pelton serve examples/models --uds pelton.sock
    python examples/clients/same_machine.py [unix:pelton.sock]

The pictures lie in memory that the client shares with the server, and so does the answer.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from pelton import Client, PeltonError

PICTURES = 20_000


def main(url: str) -> None:
    with Client(url, shared_memory=True) as client:
        # As a camera would: fill the same memory again and again.
        images = client.empty((PICTURES, 8, 8), np.uint8)
        random = np.random.default_rng(0)
        for _ in range(3):
            images[...] = random.integers(0, 17, images.shape, np.uint8)
            begun_s = time.perf_counter()
            response = client.infer("digits", {"image": images}, timing=True)
            whole_ms = (time.perf_counter() - begun_s) * 1e3
            digits = response.outputs["probabilities"].argmax(axis=1)
            print(
                f"{len(digits)} digits in {whole_ms:.1f} ms, "
                f"{response.timing.compute_s * 1e3:.1f} ms of it in the model"
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "unix:pelton.sock")
    except PeltonError as error:
        sys.exit(str(error))
