"""The inference door behind a count of requests that several nodes share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pelton.errors import Unavailable
from pelton.servers.inference_call import InferenceCall
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply, error_reply, new_request_id

if TYPE_CHECKING:
    from pelton.access.redis_limit import RedisLimiter


class Door(Protocol):
    """Answers inference requests."""

    async def answer(self, call: InferenceCall, body: memoryview, origin: Origin) -> Reply:
        """Answer one request; never raises."""


class LimitedDoor:
    """Asks Redis before the door is asked; only for callers who have a rate."""

    def __init__(self, door: Door, limiter: RedisLimiter) -> None:
        self._door = door
        self._limiter = limiter

    async def answer(self, call: InferenceCall, body: memoryview, origin: Origin) -> Reply:
        """Answer one request, or say that there were too many; never raises."""
        caller = origin.caller
        if caller.rate is not None:
            try:
                # A request is begun outside of any task, where nothing can be bounded in time.
                asked = self._limiter.take(caller.counted_as, origin.route, caller.rate)
                await asyncio.create_task(asked)
            except Unavailable as error:
                return error_reply(error, call.request_id or new_request_id())
        return await self._door.answer(call, body, origin)
