"""Asks the example server which digit a picture shows.

    python examples/clients/python_client.py [URL]

Start the server with ./start_server.sh; this program needs only `pip install pelton`.
"""

from __future__ import annotations

import sys

import numpy as np

from pelton import Client, PeltonError

SEVEN = np.array(
    [
        [0, 0, 2, 13, 16, 9, 0, 0],
        [0, 0, 12, 12, 7, 16, 3, 0],
        [0, 1, 14, 3, 0, 16, 4, 0],
        [0, 0, 0, 4, 10, 16, 6, 0],
        [0, 0, 0, 13, 16, 16, 9, 0],
        [0, 0, 0, 5, 13, 1, 0, 0],
        [0, 0, 0, 11, 9, 0, 0, 0],
        [0, 0, 1, 16, 4, 0, 0, 0],
    ],
    np.uint8,
)


def main(url: str) -> None:
    with Client(url) as client:
        for model in client.models():
            inputs = ", ".join(f"{spec.name} {spec.datatype}" for spec in model.inputs)
            print(f"{model.name} takes {inputs}")

        response = client.infer("digits", {"image": SEVEN[np.newaxis]})
        (probabilities,) = response.outputs["probabilities"]
        for digit in np.argsort(probabilities)[:-4:-1]:
            print(f"digit {digit}: {probabilities[digit]:.2%}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:50000")
    except PeltonError as error:
        sys.exit(str(error))
