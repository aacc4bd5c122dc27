"""No benchmark: whether the load generator tells the truth about a server that stalls.

    python benchmarks/check_generator.py

The server answers at once, but stands still for half a second, closes some connections behind a
503, and some without any answer. The generator has to have counted every request that was due
while the server stood still with the time that it waited, and to have lost no request.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import environments
from generators import OK, REFUSED, Generators
from load import oip
from processes import Server, free_port

RATE, SECONDS, STALL_S = 500, 4, 0.5
STALL_AT, REFUSE_EVERY, HANG_UP_EVERY = 1000, 97, 1009


class Stalling(asyncio.Protocol):
    """Counts the requests of all connections."""

    count = 0
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport), "a TCP server gives transports to write"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer, each answer in two pieces."""
        Stalling.count += 1
        if Stalling.count == STALL_AT:
            time.sleep(STALL_S)
        if Stalling.count % HANG_UP_EVERY == 0:
            self._transport.close()
        elif Stalling.count % REFUSE_EVERY == 0:
            self._transport.write(
                b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
            )
            self._transport.close()
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-")
            asyncio.get_running_loop().call_soon(self._transport.write, b"Length: 2\r\n\r\nok")


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stalling, "127.0.0.1", port)
    await server.serve_forever()


def main() -> int:
    """Return 0 if all figures are what they must be."""
    port = free_port()
    log = environments.home() / "logs" / "check-generator.log"
    command: list[str | Path] = [sys.executable, Path(__file__).resolve(), str(port)]
    with Server(command, log) as server:
        server.wait_for_port(port)
        with Generators("check", port, oip.http("/", {}, 0)) as load:
            answers = load.open([(RATE, SECONDS)], 8, 0)
    slow_s = answers.latency_s[answers.latency_s > STALL_S / 100]
    sent = len(answers.status)
    figures = {
        "requests": (sent, RATE * SECONDS, 0.1),
        "refused": (len(answers.with_status(REFUSED).status), sent / REFUSE_EVERY, 0.1),
        "answered": (len(answers.with_status(OK).status), sent * (1 - 1 / REFUSE_EVERY), 0.01),
        "slow because the server stood still": (len(slow_s), RATE * STALL_S, 0.25),
        "their mean wait, s": (float(slow_s.mean()), STALL_S / 2, 0.25),
    }
    good = True
    for name, (found, expected, tolerance) in figures.items():
        right = abs(found - expected) <= tolerance * expected
        good = good and right
        print(f"{name}: {found:.6g}, expected {expected:.6g}: {'right' if right else 'WRONG'}")
    return 0 if good else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(int(sys.argv[1])))
    sys.exit(main())
