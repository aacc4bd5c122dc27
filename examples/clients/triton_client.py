"""Asks the example server with NVIDIA's client: it speaks the same Open Inference Protocol.

    pip install 'tritonclient[http]'
    python examples/clients/triton_client.py [HOST:PORT]

Start the server with ./start_server.sh.
"""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as triton

ONE = np.array(
    [
        [0, 0, 0, 12, 13, 5, 0, 0],
        [0, 0, 0, 11, 16, 9, 0, 0],
        [0, 0, 3, 15, 16, 6, 0, 0],
        [0, 7, 15, 16, 16, 2, 0, 0],
        [0, 0, 1, 16, 16, 3, 0, 0],
        [0, 0, 1, 16, 16, 6, 0, 0],
        [0, 0, 1, 16, 16, 6, 0, 0],
        [0, 0, 0, 11, 16, 10, 0, 0],
    ],
    np.uint8,
)


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        image = triton.InferInput("image", [1, 8, 8], "UINT8")
        image.set_data_from_numpy(ONE[np.newaxis])
        wanted = triton.InferRequestedOutput("probabilities", class_count=3)
        result = client.infer("digits", [image], outputs=[wanted])
        for line in result.as_numpy("probabilities").ravel():
            probability, _, label = line.decode().split(":")
            print(f"digit {label}: {float(probability):.2%}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50000")
