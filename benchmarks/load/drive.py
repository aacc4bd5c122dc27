"""What all clients of the payload scenario share: orders on stdin, times on stdout.

Each client is a process of its own, in the environment of its server, so that no client pays for
another's imports or garbage. An order is one line of JSON:

    {"shape": [1, 480, 640, 3], "warm_up": 1, "count": 10}

and its answer is one line with a list of nanoseconds, from having an array to having the answer.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Ask = Callable[[], Any]
"""Sends one request and returns the model's output, float32 [16, 6], or None for bare bytes."""

Prepare = Callable[[Image], Ask]
"""Does what needs doing once for each size of picture."""


def observation(image: Image) -> dict[str, Any]:
    """Return what a robot sends: an instruction, six joints, and the picture."""
    return {
        "instruction": "pick up the red cube",
        "state": np.linspace(-1, 1, 6, dtype=np.float32),
        "image": image,
    }


def take_orders(prepare: Prepare) -> None:
    """Measure as ordered until standard input ends."""
    asks: dict[tuple[int, ...], Ask] = {}
    for line in sys.stdin:
        order = json.loads(line)
        shape = tuple(order["shape"])
        if shape not in asks:
            asks[shape] = _checked(prepare, shape)
        times_ns = _measure(asks[shape], order["warm_up"], order["count"])
        print(json.dumps(times_ns), flush=True)


def _checked(prepare: Prepare, shape: tuple[int, ...]) -> Ask:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ask = prepare(image)
    answer = ask()
    if answer is not None:
        expected = image[0, 0, :32].astype(np.float32).reshape(16, 6)
        np.testing.assert_array_equal(answer, expected)
    return ask


def _measure(ask: Ask, warm_up: int, count: int) -> list[int]:
    for _ in range(warm_up):
        ask()
    times_ns = []
    gc.disable()
    for _ in range(count):
        started_ns = time.perf_counter_ns()
        ask()
        times_ns.append(time.perf_counter_ns() - started_ns)
    gc.enable()
    return times_ns
