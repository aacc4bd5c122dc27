"""uvicorn's HTTP protocol, borrowed by the gate for one request at a time.

It parses and answers what the gate does not: every path but inference, and inference that
comes chunked. The gate feeds it the bytes of exactly one request, so far as the framing lets
it know, and is told when the body is complete and when the response is. Closing the connection
stays the gate's business, since only the gate knows whether the body is in.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.servers.connections import ConnectionLimits
from pelton.servers.memory_budget import Charge
from pelton.servers.origin import Origin

_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

CHUNK_FRAMING_BYTES = 16
"""What the framing of one chunk may take on average: its size in hexadecimal and line ends."""

USUAL_CHUNK_BYTES = 4096
"""Senders of large bodies make chunks at least this large, so their number is bounded by it."""


class Owner(Protocol):
    """The gate's side, as this protocol sees it."""

    def resume_reading(self) -> None:
        """The application has taken what came."""

    def control_body_complete(self) -> None:
        """The request has been received in full."""

    def control_done(self) -> None:
        """The response has been written in full."""

    def control_closes(self) -> None:
        """The response that is under way, or was given, is the last."""

    def control_refused(self, error: PeltonError) -> None:
        """The request breaks a limit or the protocol."""

    def answers_early(self) -> bool:
        """Return whether an answer ends the connection now, since the rest will not be read."""
        ...


@dataclass(slots=True)
class _Received:
    """What has come of the request in hand."""

    all_bytes: int = 0
    body_bytes: int = 0
    headers: int = 0
    chunks: int = 0
    begun: bool = False
    head_complete: bool = False
    body_complete: bool = False


class _Borrowed:
    """The transport, but for its end, and for reading on where there is no memory."""

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        self._transport = transport
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._owner.control_closes()

    def resume_reading(self) -> None:
        self._owner.resume_reading()


class ControlProtocol(HttpToolsProtocol):
    """Answers one request at a time with the control application.

    The application finds the `Origin` of each request as `request.state.origin`.
    """

    def __init__(
        self,
        owner: Owner,
        limits: ConnectionLimits,
        config: Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self._application, self.app = self.app, self._run
        self._owner = owner
        self._limits = limits
        self._max_body_bytes = self._max_chunks = 0
        self._received = _Received()
        self._refusal: PeltonError | None = None
        self._charge: Charge | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take over the transport, but leave it to the gate to be shut down."""
        super().connection_made(cast("asyncio.Transport", _Borrowed(transport, self._owner)))
        self.connections.discard(self)

    def begin(self, head: bytes, origin: Origin, charge: Charge, max_body_bytes: int) -> None:
        """Take the head of the next request.

        Args:
            head: the head, with its empty line.
            origin: where it came from.
            charge: for the body; it ends when the application is done with the request.
            max_body_bytes: size of the body.
        """
        self._received = _Received()
        self._max_body_bytes = max_body_bytes
        self._max_chunks = max(self._limits.max_chunks, max_body_bytes // USUAL_CHUNK_BYTES)
        self._refusal = None
        self._charge = charge
        self.app_state["origin"] = origin
        # Protocol switches are not offered; a parser that saw the wish would stop at the body.
        self.data_received(_UPGRADE.sub(b"", head))
        if not self._received.head_complete:
            charge.end()  # no application was started

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        charge = self._charge

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start" and self._owner.answers_early():
                # Else a client would send its next request on a connection that is closed.
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await asyncio.sleep(0)  # requests to models that have come meanwhile go first
            await self._application(scope, receive, told)
        finally:
            if charge is not None:
                charge.end()

    def data_received(self, data: bytes) -> None:
        """Parse, and bound what has no bound of its own: chunk extensions and trailers."""
        received = self._received
        received.all_bytes += len(data)
        super().data_received(data)
        most = 2 * self._limits.max_head_bytes + CHUNK_FRAMING_BYTES * self._max_chunks
        if received.all_bytes - received.body_bytes > most and not received.body_complete:
            self._owner.control_refused(
                InvalidRequest("too much around the chunks of the body", Code.TOO_LARGE)
            )

    def on_message_begin(self) -> None:
        """Begin a request; a second one behind a chunked body is not taken."""
        if self._received.begun:
            # Where a chunked body ends, only this parser knows, so it may have been fed bytes of
            # a pipelined request that the gate has not checked. RFC 9112 9.3.2 lets a server
            # close after any response; the client sends the rest again.
            self._make_last()
            raise InvalidRequest("pipelined behind a chunked body", Code.MALFORMED_REQUEST)
        self._received.begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but only count a trailer: the gate has not checked what it says."""
        self._received.headers += 1
        if self._received.headers > self._limits.max_headers:
            self._refuse(f"more than {self._limits.max_headers} headers", Code.HEAD_TOO_LARGE)
        if not self._received.head_complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application."""
        super().on_headers_complete()
        self._received.head_complete = True

    def on_chunk_header(self) -> None:
        """Count chunks: each costs work, however small it is."""
        self._received.chunks += 1
        if self._received.chunks > self._max_chunks:
            self._refuse(f"more than {self._max_chunks} chunks", Code.TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """Count bytes as they arrive."""
        self._received.body_bytes += len(body)
        if self._received.body_bytes > self._max_body_bytes:
            self._refuse(f"the body has more than {self._max_body_bytes} bytes", Code.TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is in; the gate may stop its clock."""
        super().on_message_complete()
        self._received.body_complete = True
        if not self.parser.should_keep_alive():
            # A trailer said so; the parser heeds it and would pass over what follows.
            self._make_last()
        self._owner.control_body_complete()

    def on_response_complete(self) -> None:
        """The response is out; the gate takes the connection back."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._owner.control_done()

    def send_400_response(self, msg: str) -> None:
        """The parser has stopped: refuse, unless it stopped behind a complete request."""
        if self._refusal is None and self._received.body_complete:
            return
        refusal = self._refusal or InvalidRequest(
            "this is not a valid HTTP/1.1 request", Code.MALFORMED_REQUEST
        )
        self._owner.control_refused(refusal)

    @property
    def body_bytes(self) -> int:
        """How much of the request's body has come."""
        return self._received.body_bytes

    def abandon(self) -> None:
        """Tell the application that nobody waits for its answer any more."""
        if self._received.head_complete and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()

    def response_started(self) -> bool:
        """Return whether some of the response is on the wire already."""
        return self._received.head_complete and self.cycle.response_started

    def response_complete(self) -> bool:
        """Return whether the response to the request in hand is written in full."""
        return self._received.head_complete and self.cycle.response_complete

    def _make_last(self) -> None:
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._owner.control_closes()

    def _refuse(self, message: str, code: Code) -> None:
        self._refusal = InvalidRequest(message, code)
        raise self._refusal
