"""Pickles to `/infer` through Pelton's `send_inference_request`."""

from __future__ import annotations

import sys
from typing import Any

from drive import Ask, Image, observation, take_orders

from pelton.client import send_inference_request

MODEL = "policy"


def main(port: int) -> None:
    url = f"http://127.0.0.1:{port}/infer?model={MODEL}"

    def prepare(image: Image) -> Ask:
        obs = observation(image)

        def ask() -> Any:
            return send_inference_request(obs, url)

        return ask

    take_orders(prepare)


if __name__ == "__main__":
    main(int(sys.argv[1]))
