"""Open Inference Protocol through `pelton.Client`, as a user's program sends it."""

from __future__ import annotations

import sys
from typing import Any

from drive import Ask, Image, take_orders

import pelton

MODEL = "pixels"


def main(port: int) -> None:
    with pelton.Client(f"http://127.0.0.1:{port}") as client:

        def prepare(image: Image) -> Ask:
            def ask() -> Any:
                return client.infer(MODEL, {"image": image}).outputs["actions"]

            return ask

        take_orders(prepare)


if __name__ == "__main__":
    main(int(sys.argv[1]))
