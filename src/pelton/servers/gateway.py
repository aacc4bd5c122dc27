"""What all connections of one server share."""

from __future__ import annotations

from pelton.buffers import BufferPool
from pelton.servers.connections import ConnectionLimits, Connections
from pelton.servers.http_head import HeadReader
from pelton.servers.inference import InferenceDoor
from pelton.servers.memory_budget import MemoryBudget

SCRATCH_BYTES = 32 * 1024
"""Size of the memory into which heads are received; one for all connections."""


class Gateway:
    """What all connections of one server share.

    Attributes:
        door: answers inference requests; told with each where it came from (`Origin`).
        connections: every open connection.
        limits: what one connection may cost.
        max_body_bytes: size of a body.
        heads: reads and remembers heads.
        pool: where bodies are received; what it keeps idle should be within the budget's bound.
        budget: how much memory bodies and answers may take together.
        scratch: where heads are received; emptied before the next read of any connection.
        closing: whether each answer shall be the last on its connection.
    """

    def __init__(
        self,
        door: InferenceDoor,
        limits: ConnectionLimits,
        max_body_bytes: int,
        pool: BufferPool,
        budget: MemoryBudget,
    ) -> None:
        self.door = door
        self.limits = limits
        self.max_body_bytes = max_body_bytes
        self.connections = Connections(limits)
        self.heads = HeadReader(limits.max_headers)
        self.pool = pool
        self.budget = budget
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.closing = False
