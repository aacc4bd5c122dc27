"""What may still happen to a connection whose end has begun.

An event loop may deliver bytes after `close` or `abort`: they were read in the same round.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from pelton.buffers import BufferPool
from pelton.servers.connections import ConnectionLimits
from pelton.servers.gateway import Gateway
from pelton.servers.http_gate import HttpGate
from pelton.servers.memory_budget import MemoryBudget
from servers.unguarded import unguarded

GARBAGE = [b"\n\n", b"\x16\x03\x01", b"X" * 1000, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]


def transport() -> Mock:
    made = Mock(spec=asyncio.Transport)
    made.closing = False
    made.is_closing.side_effect = lambda: made.closing
    made.is_reading.return_value = True
    for end in (made.close, made.abort):
        end.side_effect = lambda: setattr(made, "closing", True)
    return made


def connected(max_connections: int = 8) -> tuple[HttpGate, Mock]:
    limits = ConnectionLimits(max_connections=max_connections)
    gateway = Gateway(Mock(), limits, 1000, BufferPool(0), MemoryBudget(1000), unguarded())
    state = SimpleNamespace(connections=set(), default_headers=[])
    loop = asyncio.get_running_loop()
    gate = HttpGate(gateway, state, Mock(), lambda _transport: False, loop)
    wire = transport()
    gate.connection_made(wire)
    return gate, wire


def arrive(gate: HttpGate, data: bytes) -> None:
    gate.get_buffer(-1)[: len(data)] = data
    gate.buffer_updated(len(data))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("data", GARBAGE)
async def test_an_evicted_connection_is_not_listened_to(data: bytes) -> None:
    gate, wire = connected()
    gate.close_idle()
    arrive(gate, data)
    wire.abort.assert_called_once_with()
    assert not wire.write.called
    assert not wire.writelines.called


@pytest.mark.timeout(10)
@pytest.mark.parametrize("data", GARBAGE)
async def test_a_connection_refused_at_the_cap_is_told_once(data: bytes) -> None:
    gate, wire = connected(max_connections=0)
    arrive(gate, data)
    wire.writelines.assert_called_once()
    assert b" 503 " in wire.writelines.call_args.args[0][0]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("data", GARBAGE[:3])
async def test_garbage_after_the_other_side_has_closed_ends_the_reading(data: bytes) -> None:
    gate, wire = connected()
    wire.closing = True
    arrive(gate, data + b"\n\n")
    assert not wire.writelines.called
