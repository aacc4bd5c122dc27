"""uvicorn's HTTP protocol, borrowed by the gate for one request at a time.

It parses and answers what the gate does not: every path but inference, and inference that
comes chunked. The gate feeds it the bytes of exactly one request, so far as the framing lets
it know, and is told when the body is complete and when the response is.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.servers.connections import ConnectionLimits


class Owner(Protocol):
    """The gate, as this side sees it."""

    def control_body_complete(self) -> None:
        """The request has been received in full."""

    def control_done(self) -> None:
        """The response has been written in full."""

    def control_refused(self, error: PeltonError) -> None:
        """The request breaks a limit or the protocol, and no response has been begun."""


class ControlProtocol(HttpToolsProtocol):
    """Answers one request at a time with the control application."""

    def __init__(
        self,
        owner: Owner,
        limits: ConnectionLimits,
        max_body_bytes: int,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state, asyncio.get_running_loop())
        self._owner = owner
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._headers_seen = 0
        self._chunks_seen = 0
        self._body_bytes = 0
        self._in_request = False
        self._refusal: PeltonError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take over the transport, but leave it to the gate to be shut down."""
        super().connection_made(transport)
        self.connections.discard(self)

    def on_message_begin(self) -> None:
        """Begin a request; a second one behind a chunked body is not taken."""
        if self._in_request:
            # Where a chunked body ends, only this parser knows, so it may have been fed bytes of
            # a pipelined request that the gate has not checked. RFC 9112 9.3.2 lets a server
            # close after any response; the client sends the rest again.
            self.cycle.keep_alive = False
            raise InvalidRequest("pipelined behind a chunked body", Code.MALFORMED_REQUEST)
        self._in_request = True
        self._headers_seen = self._chunks_seen = self._body_bytes = 0
        self._refusal = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count headers, since trailers arrive here too and the gate has not seen them."""
        self._headers_seen += 1
        if self._headers_seen > self._limits.max_headers:
            self._refuse(f"more than {self._limits.max_headers} headers", Code.HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_chunk_header(self) -> None:
        """Count chunks: each costs work, however small it is."""
        self._chunks_seen += 1
        if self._chunks_seen > self._limits.max_chunks:
            self._refuse(f"more than {self._limits.max_chunks} chunks", Code.TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """Count bytes as they arrive."""
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._refuse(f"the body has more than {self._max_body_bytes} bytes", Code.TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is in; the gate may stop its clock."""
        super().on_message_complete()
        self._owner.control_body_complete()

    def on_response_complete(self) -> None:
        """The response is out; the gate takes the connection back."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._in_request = False
        self._owner.control_done()

    def send_400_response(self, msg: str) -> None:
        """The parser has stopped: refuse, unless it stopped behind a complete request."""
        if self._refusal is None and self.cycle is not None and not self.cycle.more_body:
            return
        refusal = self._refusal or InvalidRequest(
            "this is not a valid HTTP/1.1 request", Code.MALFORMED_REQUEST
        )
        self._owner.control_refused(refusal)

    def abandon(self) -> None:
        """Tell the application that nobody waits for its answer any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def response_started(self) -> bool:
        """Return whether some of the response is on the wire already."""
        return self.cycle is not None and self.cycle.response_started

    def _refuse(self, message: str, code: Code) -> None:
        self._refusal = InvalidRequest(message, code)
        raise self._refusal
