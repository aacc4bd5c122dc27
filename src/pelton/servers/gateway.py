"""What all connections of one server share."""

from __future__ import annotations

from pelton.buffers import BufferPool
from pelton.servers.access import Access
from pelton.servers.body_bounds import BodyBounds
from pelton.servers.connections import ConnectionLimits, Connections
from pelton.servers.http_head import HeadReader, RequestHead
from pelton.servers.limited_door import Door, LimitedDoor
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.refusals import body_too_large
from pelton.servers.refused_counts import RefusedCounts

SCRATCH_BYTES = 32 * 1024
"""Size of the memory into which heads are received; one for all connections."""


class Gateway:
    """What all connections of one server share.

    Attributes:
        door: answers inference requests; told with each where it came from (`Origin`).
        connections: every open connection.
        limits: what one connection may cost.
        max_body_bytes: size of the body of an inference.
        bounds: size of the body of any request.
        heads: reads and remembers heads.
        pool: where bodies are received; what it keeps idle should be within the budget's bound.
        budget: how much memory bodies and answers may take together.
        access: lets requests in.
        refused: how many it has not let in.
        scratch: where heads are received; emptied before the next read of any connection.
        closing: whether each answer shall be the last on its connection.
    """

    def __init__(
        self,
        door: Door,
        limits: ConnectionLimits,
        max_body_bytes: int,
        pool: BufferPool,
        budget: MemoryBudget,
        access: Access,
        max_upload_bytes: int | None = None,
    ) -> None:
        """Take in what is shared.

        Args:
            door: answers inference requests.
            limits: what one connection may cost.
            max_body_bytes: size of a body.
            pool: where bodies are received.
            budget: how much memory bodies and answers may take together.
            access: lets requests in.
            max_upload_bytes: size of an uploaded file; None where nothing can be uploaded.
        """
        self.access = access
        self.refused = RefusedCounts()
        limit = self.access.shared_limit
        self.door = door if limit is None else LimitedDoor(door, limit)
        self.limits = limits
        self.max_body_bytes = max_body_bytes
        self.connections = Connections(limits)
        self.heads = HeadReader(limits.max_headers)
        self.pool = pool
        self.budget = budget
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.closing = False
        self.bounds = BodyBounds(max_body_bytes, max_upload_bytes)

    def charge_of(self, head: RequestHead) -> int:
        """Return how much memory a body has to be charged with before it comes.

        That is nothing for one that is chunked, unless it is an upload: nobody knows its size.

        Raises:
            InvalidRequest: it is larger than it may be.
        """
        length = head.content_length
        if length == 0:
            return 0
        bound = self.bounds.of(head)
        if length is None:
            return bound.held_bytes if bound.is_upload else 0
        if length > bound.max_bytes:
            raise body_too_large(length, bound.max_bytes)
        return min(length, bound.held_bytes)
