"""Load from `load/generator.py`, in one process or in several, and what came of it."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import environments
from environments import HERE
from processes import Client

HEAD_START_S = 0.2
SEED_STEP = 1000
OK = 200
REFUSED = 503


@dataclass(frozen=True)
class Answers:
    """Every request of one order, in no particular order.

    Attributes:
        due_s: when it was due, seconds after the start; float64 [requests].
        latency_s: from then to its answer's last byte; float64 [requests].
        status: HTTP's; 0 where no answer came; int64 [requests].
        first: the body of the first answer ever.
    """

    due_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    first: bytes

    def between(self, begin_s: float, end_s: float) -> Answers:
        """Return those that were due in a span of time."""
        return self._where((self.due_s >= begin_s) & (self.due_s < end_s))

    def with_status(self, status: int) -> Answers:
        """Return those that were answered so."""
        return self._where(self.status == status)

    def answered_per_s(self, begin_s: float, end_s: float, status: int = OK) -> float:
        """Return how many answers of one kind arrived per second of a span of time."""
        at_s = self.due_s + self.latency_s
        found = (self.status == status) & (at_s >= begin_s) & (at_s < end_s)
        return float(found.sum()) / (end_s - begin_s)

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latencies, milliseconds."""
        return float(np.percentile(self.latency_s, percent)) * 1e3

    def require_ok(self, what: str) -> None:
        """Raise RuntimeError if any request was not answered with 200."""
        failed = self.status[self.status != OK]
        if len(failed) or not len(self.status):
            kinds = ", ".join(str(kind) for kind in np.unique(failed)) or "none sent"
            raise RuntimeError(f"{what}: {len(failed)} of {len(self.status)} failed ({kinds})")

    def summary(self) -> dict[str, Any]:
        """Return what is kept of them: how many of each status, and the latencies' shape."""
        steps = [*range(0, 100, 5), 99, 99.9, 100] if len(self.status) else []
        kinds, counts = np.unique(self.status, return_counts=True)
        spread = np.percentile(self.latency_s, steps) * 1e3 if steps else []
        return {
            "statuses": {str(kind): int(n) for kind, n in zip(kinds, counts, strict=True)},
            "latency_ms": {
                f"p{p}": round(float(ms), 4) for p, ms in zip(steps, spread, strict=True)
            },
        }

    def _where(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        return Answers(self.due_s[chosen], self.latency_s[chosen], self.status[chosen], self.first)


class Generators:
    """One or several generators that send the same request to the same server."""

    def __init__(self, name: str, port: int, request: bytes, framing: str = "http") -> None:
        """Remember what to send; `processes` says how many send it."""
        self._name = name
        self._port = port
        self._request = request
        self._framing = framing
        self._clients: list[Client] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.start(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start(self, processes: int) -> None:
        """Have at least so many processes."""
        file = environments.home() / f"request-{self._name}"
        file.write_bytes(self._request)
        program: tuple[str | Path, ...] = (sys.executable, HERE / "load/generator.py", "127.0.0.1")
        while len(self._clients) < processes:
            log = environments.home() / "logs" / f"load-{self._name}-{len(self._clients)}.log"
            command: list[str | Path] = [*program, str(self._port), self._framing, file]
            self._clients.append(self._stack.enter_context(Client(command, log, piped=True)))

    def closed(self, connections: int, seconds: float, processes: int = 1) -> Answers:
        """Have each connection ask again as soon as it is answered."""
        return self._order(connections, processes, [{"seconds": seconds}] * processes)

    def open(
        self,
        phases: Sequence[tuple[float, float]],
        connections: int,
        seed: int,
        processes: int = 1,
    ) -> Answers:
        """Send at moments drawn beforehand, whatever the server does.

        Args:
            phases: (requests per second, seconds), one after another.
            connections: most requests under way.
            seed: of the moments.
            processes: generators that share the load; several Poisson streams make one.
        """
        shares = [
            {
                "phases": [(rate / processes, seconds) for rate, seconds in phases],
                "seed": seed + SEED_STEP * number,
            }
            for number in range(processes)
        ]
        return self._order(connections, processes, shares)

    def _order(self, connections: int, processes: int, shares: list[dict[str, Any]]) -> Answers:
        self.start(processes)
        common = {
            "connections": connections // processes,
            "start_ns": time.monotonic_ns() + int(HEAD_START_S * 1e9),
        }
        used = self._clients[:processes]
        for client, share in zip(used, shares, strict=True):
            client.tell(common | share)
        parts = [client.answer() for client in used]
        return Answers(
            np.concatenate([part["due_us"] for part in parts]) / 1e6,
            np.concatenate([part["latency_us"] for part in parts]) / 1e6,
            np.concatenate([part["status"] for part in parts]).astype(np.int64),
            base64.b64decode(parts[0]["first"]),
        )
