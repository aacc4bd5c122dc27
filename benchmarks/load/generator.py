"""The load generator: closed and open loops over kept connections, from one thread.

    python generator.py HOST PORT http|websocket FILE

FILE holds one request, which is sent again and again. Orders are lines of JSON on standard input:

    {"connections": 16, "start_ns": 0, "seconds": 5}
    {"connections": 256, "start_ns": 0, "phases": [[180, 3], [4500, 60], [180, 10]], "seed": 1}

The first is a closed loop, the second an open one with Poisson arrivals; `start_ns` is the moment,
on the monotonic clock, at which it begins, so that several generators begin together. Each is
answered with one line: lists with when each request was due (microseconds after the start), how
long its answer took from then on, and the status; 0 stands for no answer. `first` is the body of
the first answer that came, in base 64, and `start_ns` the moment at which it began.

With `"bodies": true` it also keeps which body each request was answered with: `body` is a list of
indices into `bodies`, which holds each body once, in base 64; -1 stands for no answer. With
`"stamp": OFFSET` the four bytes at that place of the request become a float32 that counts the
requests, so that no two of them ask the same.

It sleeps until the next moment by `select` on the selector itself, which, unlike the selector's own
waiting, is not rounded to milliseconds. One process sends some 40,000 small requests per
second; one that goes out late counts as if it had been punctual.
"""

from __future__ import annotations

import base64
import gc
import json
import select
import selectors
import struct
import sys
import time
from pathlib import Path
from typing import Any

from arrivals import Arrivals, Closed, Poisson
from connection import LOST, Connection
from framing import FRAMINGS, Framing

PATIENCE_NS = 10_000_000_000
POLL_S = 0.05

STALE_NS = 10_000_000_000
"""Servers close connections that were idle for a while, such as a minute; what is sent at that very
moment is lost, which tells nothing of the server."""

Answered = tuple[int, int, int, int]
"""When a request was due and when it was answered, nanoseconds; its status; number of its body."""


class Generator:
    """Drives a set of connections."""

    def __init__(self, address: tuple[str, int], framing: Framing, request: bytes) -> None:
        """Remember what to send, and where to."""
        self._address = address
        self._framing = framing
        self._request = memoryview(framing.wrap(request))
        self._selector = selectors.DefaultSelector()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._answers: list[Answered] = []
        self._stamp: int | None = None
        self._stamped = 0
        self.bodies: dict[bytes, int] | None = None
        self.first = b""

    def connect(self, count: int) -> None:
        """Have at least `count` connections open.

        Those that the server has closed are reopened, and those that it may be about to close.
        """
        stale_ns = time.monotonic_ns() - STALE_NS
        for connection in self._idle:
            if connection.idle_since_ns < stale_ns:
                connection.reopen()
        while closed := self._selector.select(0):  # a server may close more of them meanwhile
            for key, _ in closed:
                key.data.reopen()
        while len(self._idle) < count:
            self._idle.append(Connection(self._address, self._framing, self._selector))

    def prepare(self, stamp: int | None, bodies: bool) -> None:
        """Say what is done with requests and answers from now on.

        Args:
            stamp: where in a request its number is written; None for nowhere.
            bodies: whether the bodies of answers are kept, each once.
        """
        self._stamp = stamp
        self.bodies = {} if bodies else None

    def drive(self, arrivals: Arrivals, count: int) -> list[Answered]:
        """Send until the arrivals are over and answered, or patience ends.

        Args:
            arrivals: when requests are due.
            count: connections to use.

        Returns:
            What became of each request.
        """
        self._answers = []
        spare, self._idle = self._idle[count:], self._idle[:count]
        give_up_ns = 0
        while True:
            now_ns = self._send_due(arrivals)
            if arrivals.over(now_ns):
                give_up_ns = give_up_ns or now_ns + PATIENCE_NS
                if not self._busy or now_ns > give_up_ns:
                    break
            self._sleep(arrivals, now_ns)
            self._receive()
        self._abandon()
        self._idle += spare
        return self._answers

    def _send_due(self, arrivals: Arrivals) -> int:
        """Send what is due as far as connections are free; return the time."""
        now_ns = time.monotonic_ns()
        while self._idle:
            due_ns = arrivals.take(now_ns)
            if due_ns is None:
                break
            connection = self._idle.pop()
            self._busy.add(connection)
            connection.send(self._next_request(), due_ns)
            now_ns = time.monotonic_ns()
        return now_ns

    def _sleep(self, arrivals: Arrivals, now_ns: int) -> None:
        wait_s = POLL_S
        if self._idle:
            wait_s = min(POLL_S, max(0.0, (arrivals.next_ns() - now_ns) / 1e9))
        select.select([self._selector], [], [], wait_s)

    def _receive(self) -> None:
        for key, ready in self._selector.select(0):
            connection: Connection = key.data
            status = connection.advance(ready)
            if status is None:
                continue
            if connection in self._busy:
                self._record(connection, status)
            if status == LOST or connection.ended:
                connection.reopen()

    def _record(self, connection: Connection, status: int) -> None:
        at_ns = time.monotonic_ns()
        self._answers.append((connection.due_ns, at_ns, status, self._number(connection, status)))
        self._busy.remove(connection)
        self._idle.append(connection)
        if not self.first:
            self.first = connection.body

    def _next_request(self) -> memoryview:
        if self._stamp is None:
            return self._request
        self._stamped += 1
        request = bytearray(self._request)
        struct.pack_into("<f", request, self._stamp, self._stamped)
        return memoryview(request)

    def _number(self, connection: Connection, status: int) -> int:
        """Return the number of the body that a request was answered with; -1 for none."""
        if self.bodies is None or status == LOST:
            return -1
        return self.bodies.setdefault(connection.body, len(self.bodies))

    def _abandon(self) -> None:
        for connection in list(self._busy):
            self._record(connection, LOST)
            connection.reopen()


def obey(generator: Generator, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    generator.connect(order["connections"])
    generator.prepare(order.get("stamp"), order.get("bodies", False))
    start_ns = max(order["start_ns"], time.monotonic_ns())
    arrivals: Arrivals
    if "phases" in order:
        arrivals = Poisson(start_ns, order["phases"], order["seed"])
    else:
        arrivals = Closed(start_ns + int(order["seconds"] * 1e9))
    time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
    gc.disable()
    answers = generator.drive(arrivals, order["connections"])
    gc.enable()
    return {
        "start_ns": start_ns,
        "due_us": [(due - start_ns) // 1000 for due, _, _, _ in answers],
        "latency_us": [(answered - due) / 1000 for due, answered, _, _ in answers],
        "status": [status for _, _, status, _ in answers],
        "first": base64.b64encode(generator.first).decode(),
        "body": [body for _, _, _, body in answers if generator.bodies is not None],
        "bodies": [base64.b64encode(body).decode() for body in generator.bodies or ()],
    }


def main(host: str, port: str, framing: str, file: str) -> None:
    generator = Generator((host, int(port)), FRAMINGS[framing](), Path(file).read_bytes())
    for line in sys.stdin:
        print(json.dumps(obey(generator, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
