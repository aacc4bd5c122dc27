"""A robot's control loop against the example policy.

    python examples/clients/robot.py [URL]

Start the server with ./start_server.sh; this program needs only `pip install pelton`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from pelton import send_inference_request

STEPS = 5


def observe(joints: np.ndarray) -> dict[str, Any]:
    """Stand in for the robot's sensors: a grey picture with a red cube to the right."""
    image = np.full((480, 640, 3), 90, np.uint8)
    image[216:264, 480:528] = (220, 30, 30)
    return {"instruction": "look at the red cube", "state": joints, "image": image}


def main(url: str) -> None:
    joints = np.zeros(6, np.float32)
    for step in range(STEPS):
        started_s = time.perf_counter()
        actions = send_inference_request(observe(joints), url, timeout=1.0)
        took_s = time.perf_counter() - started_s
        joints = actions[0]
        print(f"step {step}: {len(actions)} actions in {took_s * 1000:.1f} ms, first {joints}")


if __name__ == "__main__":
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:50000"
    try:
        main(f"{base}/infer?model=policy")
    except RuntimeError as error:
        sys.exit(str(error))
