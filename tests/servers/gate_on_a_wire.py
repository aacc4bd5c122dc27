"""A gate whose transport the test plays, and a door that answers when it is told to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from pelton.buffers import BufferPool
from pelton.servers.connections import ConnectionLimits
from pelton.servers.gateway import Gateway
from pelton.servers.http_gate import HttpGate
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply
from servers.unguarded import unguarded


class Door:
    """Notes what it is asked, and answers with `answer_bytes` zeros.

    Attributes:
        bodies: what came, as views.
        origins: where from.
        hold: whether answers wait for `release`.
        answer_bytes: size of an answer.
    """

    def __init__(self) -> None:
        self.bodies: list[memoryview] = []
        self.origins: list[Origin] = []
        self.hold = False
        self.answer_bytes = 2
        self._released = asyncio.Event()

    async def answer(self, _call: Any, body: memoryview, origin: Origin) -> Reply:
        """Answer one request."""
        self.bodies.append(body)
        self.origins.append(origin)
        if self.hold:
            await self._released.wait()
        return Reply(200, "text/plain", [bytes(self.answer_bytes)], self.answer_bytes)

    def release(self) -> None:
        """Let held answers go."""
        self._released.set()


class Site:
    """What the gates of one test share.

    Attributes:
        budget: of all of them.
        door: likewise.
        gateway: likewise.
    """

    def __init__(self, limit_bytes: int, max_body_bytes: int | None = None) -> None:
        self.budget = MemoryBudget(limit_bytes)
        self.door = Door()
        door: Any = self.door
        most = max_body_bytes or limit_bytes
        pool = BufferPool(limit_bytes)
        self.gateway = Gateway(door, ConnectionLimits(), most, pool, self.budget, unguarded())

    def connect(self, same_user: bool = False) -> Wired:
        """Open a connection."""
        return Wired(self.gateway, same_user)


class Wired:
    """One connection.

    Attributes:
        gate: what is tested.
        transport: a mock; `reading` and `closing` are what the gate made of it.
        takes: whether the client takes what is written.
    """

    def __init__(self, gateway: Gateway, same_user: bool) -> None:
        self.reading = True
        self.closing = False
        self.takes = True
        self.written = b""
        self.transport = made = Mock(spec=asyncio.Transport)
        made.get_extra_info.return_value = None
        made.is_closing.side_effect = lambda: self.closing
        made.is_reading.side_effect = lambda: self.reading
        made.pause_reading.side_effect = lambda: self._set(reading=False)
        made.resume_reading.side_effect = lambda: self._set(reading=True)
        made.writelines.side_effect = self._write
        made.write.side_effect = lambda data: self._write([data])
        for end in (made.close, made.abort):
            end.side_effect = lambda: self._set(closing=True)
        made.get_write_buffer_size.side_effect = lambda: len(self.written)
        state: Any = SimpleNamespace(connections=set(), default_headers=[])
        self.gate = HttpGate(
            gateway, state, Mock(), lambda _transport: same_user, asyncio.get_running_loop()
        )
        self.gate.connection_made(made)

    def arrive(self, data: bytes) -> None:
        """Receive, as far as the gate reads."""
        while data:
            assert self.reading, "the gate does not read"
            buffer = self.gate.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            del buffer
            data = data[count:]
            self.gate.buffer_updated(count)

    def take(self) -> None:
        """Have the client take everything."""
        self.takes = True
        self.gate.resume_writing()

    def statuses(self) -> list[int]:
        """Return the statuses of the answers so far, `100` too."""
        return [int(part[:3]) for part in self.written.split(b"HTTP/1.1 ")[1:]]

    def _set(self, **values: bool) -> None:
        vars(self).update(values)

    def _write(self, pieces: list[Any]) -> None:
        self.written += b"".join(pieces)
        if not self.takes:
            self.gate.pause_writing()


def head(length: int, *lines: str) -> bytes:
    """Write the head of an inference."""
    every = ["POST /infer HTTP/1.1", "Host: test", f"Content-Length: {length}", *lines]
    return "\r\n".join([*every, "", ""]).encode()
