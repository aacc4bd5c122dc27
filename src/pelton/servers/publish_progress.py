"""A publication whose progress is told while it goes on, as server-sent events.

Nothing is answered before all of the upload has come: clients stop sending once they see an
answer, and what is refused until then is refused by the status. From then on every gate is told
as it is entered, and in the end what came of it. The format is that of the HTML standard, 9.2.5.

A version that has been received is published, or refused, also where the client hangs up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse

from pelton.errors import Code, PeltonError
from pelton.servers.model_control import PublishedRow
from pelton.wire import strict_json
from pelton.wire.status import error_body

logger = logging.getLogger("pelton.publish")

EVENTS = "text/event-stream"

SIGN_OF_LIFE_S = 10.0
"""A comment is sent so often while a gate takes its time, so that no proxy gives up."""

Publish = Callable[[AsyncIterator[bytes], Callable[[str], None]], Coroutine[Any, Any, PublishedRow]]
"""Chunks and who is told of the gates -> what was published."""


class ProgressTeller:
    """Runs publications and tells of them.

    Attributes:
        running: those that go on, whether or not somebody listens.
    """

    def __init__(self) -> None:
        self.running: set[asyncio.Task[PublishedRow]] = set()

    async def answer(
        self, publish: Publish, chunks: AsyncIterator[bytes], request_id: str
    ) -> Response:
        """Run one publication; return the answer once all chunks have come.

        Args:
            publish: runs it.
            chunks: the upload.
            request_id: under which the server's log knows the request.

        Raises:
            PeltonError: it was refused before.
        """
        received = asyncio.Event()
        gates: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(publish(_then(chunks, received), gates.put_nowait))
        self.running.add(task)

        def ended(_task: asyncio.Task[PublishedRow]) -> None:
            gates.put_nowait(None)
            received.set()

        task.add_done_callback(ended)
        task.add_done_callback(self._forget)
        try:
            await received.wait()
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return StreamingResponse(
            _events(task, gates, request_id),
            media_type=EVENTS,
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def _forget(self, task: asyncio.Task[PublishedRow]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            task.exception()  # told to the client, if it is there still


async def _then(chunks: AsyncIterator[bytes], received: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
    received.set()


async def _events(
    task: asyncio.Task[PublishedRow], gates: asyncio.Queue[str | None], request_id: str
) -> AsyncIterator[bytes]:
    while True:
        try:
            gate = await asyncio.wait_for(gates.get(), SIGN_OF_LIFE_S)
        except TimeoutError:
            yield b":\n\n"
            continue
        if gate is None:
            break
        yield _event(strict_json.dumps({"gate": gate}))
    yield _event(_ending(task, request_id))


def _ending(task: asyncio.Task[PublishedRow], request_id: str) -> bytes:
    if task.cancelled():
        return error_body(PeltonError("the server is ending", Code.UNAVAILABLE), request_id)
    error = task.exception()
    if error is None:
        return strict_json.dumps(told(task.result()))
    if isinstance(error, PeltonError):
        return error_body(error, request_id)
    logger.error("publishing failed", exc_info=error)
    return error_body(PeltonError("the server failed; its log tells more"), request_id)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def told(row: PublishedRow) -> dict[str, Any]:
    """Return what the sender of a version is told of it."""
    return {
        "model": row.model,
        "version": row.version,
        "digest": row.digest,
        "numbers": dict(row.numbers),
    }
