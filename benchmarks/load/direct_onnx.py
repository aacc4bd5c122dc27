"""ONNX Runtime without any server: the limit of whatever runs the same model.

    python direct_onnx.py MODEL

Orders are lines of JSON on standard input,

    {"sessions": 4, "threads": 1, "callers": 1, "batch": 1, "seconds": 3}

meaning `sessions` sessions with `threads` threads each, every one called again and again by
`callers` threads with `batch` rows. Each is answered with one line: the rows that were computed,
the seconds that it took, and the median and 99th percentile of a call, microseconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
import onnxruntime


class Direct:
    """Sessions over one model, kept from order to order."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._sessions: dict[tuple[int, int], list[onnxruntime.InferenceSession]] = {}

    def measure(self, order: dict[str, Any]) -> dict[str, float]:
        """Carry out one order."""
        sessions = self._opened(order["sessions"], order["threads"])
        (takes,) = sessions[0].get_inputs()
        shape = [order["batch"], *takes.shape[1:]]
        inputs = {takes.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
        for session in sessions:
            session.run(None, inputs)
        calls: list[list[int]] = []
        started_s = time.monotonic()
        end_s = started_s + order["seconds"]
        workers = [
            threading.Thread(target=_call, args=(session, inputs, end_s, calls))
            for session in sessions
            for _ in range(order["callers"])
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        taken_s = time.monotonic() - started_s
        times_us = np.concatenate(calls) / 1e3
        return {
            "rows": len(times_us) * order["batch"],
            "seconds": taken_s,
            "median_us": float(np.median(times_us)),
            "p99_us": float(np.percentile(times_us, 99)),
        }

    def _opened(self, count: int, threads: int) -> list[onnxruntime.InferenceSession]:
        found = self._sessions.setdefault((count, threads), [])
        while len(found) < count:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # As ONNX Runtime has it, threads spin while they wait for work; here only while a run
            # is under way, or those of one arrangement would slow whatever is measured next.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            found.append(
                onnxruntime.InferenceSession(
                    self._model, options, providers=["CPUExecutionProvider"]
                )
            )
        return found


def _call(
    session: onnxruntime.InferenceSession,
    inputs: dict[str, Any],
    end_s: float,
    calls: list[list[int]],
) -> None:
    times_ns = []
    while time.monotonic() < end_s:
        started_ns = time.perf_counter_ns()
        session.run(None, inputs)
        times_ns.append(time.perf_counter_ns() - started_ns)
    calls.append(times_ns)


if __name__ == "__main__":
    direct = Direct(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(direct.measure(json.loads(line))), flush=True)
