"""Load from `load/generator.py`, in one process or in several, and what came of it."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
        start_s: the start, on the monotonic clock, seconds.
        body: which of `bodies` each was answered with, -1 where there was no answer; int64
            [requests], or empty where bodies were not kept.
        bodies: each body once.
    """

    due_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    first: bytes
    start_s: float = 0.0
    body: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    bodies: tuple[bytes, ...] = ()

    def between(self, begin_s: float, end_s: float) -> Answers:
        """Return those that were due in a span of time."""
        return self.where((self.due_s >= begin_s) & (self.due_s < end_s))

    def with_status(self, status: int) -> Answers:
        """Return those that were answered so."""
        return self.where(self.status == status)

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

    def where(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        """Return those that are chosen."""
        return replace(
            self,
            due_s=self.due_s[chosen],
            latency_s=self.latency_s[chosen],
            status=self.status[chosen],
            body=self.body[chosen] if len(self.body) else self.body,
        )


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

    def closed(
        self,
        connections: int,
        seconds: float,
        processes: int = 1,
        stamp: int | None = None,
    ) -> Answers:
        """Have each connection ask again as soon as it is answered.

        Args:
            connections: requests under way.
            seconds: for how long.
            processes: generators that share the load.
            stamp: where four bytes of the request become another float32 each time; one process.
        """
        shares: list[dict[str, Any]] = [{"seconds": seconds, "stamp": stamp}] * processes
        return self._order(connections, processes, shares)

    def open(
        self,
        phases: Sequence[tuple[float, float]],
        connections: int,
        seed: int,
        processes: int = 1,
        bodies: bool = False,
    ) -> Answers:
        """Send at moments drawn beforehand, whatever the server does.

        Args:
            phases: (requests per second, seconds), one after another.
            connections: most requests under way.
            seed: of the moments.
            processes: generators that share the load; several Poisson streams make one.
            bodies: whether the bodies of all answers are kept, each once.
        """
        shares = [
            {
                "phases": [(rate / processes, seconds) for rate, seconds in phases],
                "seed": seed + SEED_STEP * number,
                "bodies": bodies,
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
        return _together(parts)


def _together(parts: Sequence[dict[str, Any]]) -> Answers:
    """Return what several generators counted, which began together, as one."""
    body, bodies = [], []
    for part in parts:
        numbers = np.array(part["body"], np.int64)
        body.append(np.where(numbers < 0, -1, numbers + len(bodies)))
        bodies += [base64.b64decode(text) for text in part["bodies"]]
    return Answers(
        np.concatenate([part["due_us"] for part in parts]) / 1e6,
        np.concatenate([part["latency_us"] for part in parts]) / 1e6,
        np.concatenate([part["status"] for part in parts]).astype(np.int64),
        base64.b64decode(parts[0]["first"]),
        parts[0]["start_ns"] / 1e9,
        np.concatenate(body),
        tuple(bodies),
    )
