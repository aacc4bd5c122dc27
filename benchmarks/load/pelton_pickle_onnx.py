"""The same pickles, of the picture alone, to the ONNX model of the rows over OIP."""

from __future__ import annotations

import sys
from typing import Any

from drive import Ask, Image, take_orders

from pelton.client import send_inference_request

MODEL = "pixels"


def main(port: int) -> None:
    url = f"http://127.0.0.1:{port}/infer?model={MODEL}"

    def prepare(image: Image) -> Ask:
        def ask() -> Any:
            return send_inference_request({"image": image}, url)

        return ask

    take_orders(prepare)


if __name__ == "__main__":
    main(int(sys.argv[1]))
