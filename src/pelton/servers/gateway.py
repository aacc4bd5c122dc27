"""What all connections of one server share."""

from __future__ import annotations

from pelton.servers.buffers import BufferPool
from pelton.servers.connections import ConnectionLimits, Connections
from pelton.servers.http_head import HeadReader
from pelton.servers.inference import InferenceDoor

SCRATCH_BYTES = 32 * 1024
"""Size of the memory into which heads are received; one for all connections."""

KEPT_BODIES = 4
"""How many bodies of the largest size the pool keeps memory for."""


class Gateway:
    """What all connections of one server share.

    Attributes:
        door: answers inference requests.
        connections: every open connection.
        limits: what one connection may cost.
        max_body_bytes: size of a body.
        heads: reads and remembers heads.
        pool: where bodies are received.
        scratch: where heads are received; emptied before the next read of any connection.
        closing: whether each answer shall be the last on its connection.
    """

    def __init__(self, door: InferenceDoor, limits: ConnectionLimits, max_body_bytes: int) -> None:
        self.door = door
        self.limits = limits
        self.max_body_bytes = max_body_bytes
        self.connections = Connections(limits)
        self.heads = HeadReader(limits.max_headers)
        self.pool = BufferPool(keep_bytes=KEPT_BODIES * max_body_bytes)
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.closing = False
