"""The HTTP door: one object per connection, between the socket and everything else.

Where the bytes of a connection go, request by request:

    HEAD      the head is gathered and checked
     |-> BODY      an inference: its body is received straight into one aligned block
     |    `-> BUSY      the door answers; what the client sends meanwhile waits here
     |         `-> SENDING   the client is slow to take the answer
     `-> CONTROL   anything else, or an unusual framing: uvicorn's own protocol and the control
                   application answer; then the connection comes back to HEAD

The gate keeps the limits that uvicorn has not: size and time of head and body, number of
connections, strict framing. It stays the transport's protocol all the time and passes bytes on,
so it sees every byte and knows where each request ends.

Between kernel and model nothing is copied of a large body; a small one that arrives with its
head is copied once.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.servers import eager
from pelton.servers.control_protocol import ControlProtocol
from pelton.servers.gate_states import BODY, BUSY, CLOSED, CONTROL, HEAD, LINGERING, SENDING
from pelton.servers.gateway import Gateway
from pelton.servers.http_head import RequestHead, cut_head, has_begun
from pelton.servers.http_reply import response_pieces
from pelton.servers.inference import (
    Target,
    inference_target,
    wants_compression,
)
from pelton.servers.replies import Reply, error_reply, request_id

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NUMBER = re.compile(r"[0-9]{1,9}")

_SPARE_BYTES = 1
"""Read beyond a body: a read that does not fill its buffer is known to have been the last."""

LINGER_S = 2.0
"""How long a refused client is listened to, so that it can read why before the reset."""


class HttpGate(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        deadline_s: loop time at which it has to have moved on.
    """

    def __init__(
        self,
        gateway: Gateway,
        server_state: ServerState,
        make_control: Callable[[HttpGate], ControlProtocol],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.deadline_s = math.inf
        self._gateway = gateway
        self._server_state = server_state
        # uvicorn looks here for what it has to shut down; it calls nothing but `shutdown`.
        self._register: set[Any] = cast("set[Any]", server_state.connections)
        self._make_control = make_control
        self._control: ControlProtocol | None = None
        self._now: Callable[[], float] = loop.time
        self._transport: asyncio.Transport
        self._state = HEAD
        self._waiting = bytearray()  # received and not yet looked at
        self._head: RequestHead
        self._target: Target
        self._body = memoryview(b"")
        self._filled = 0
        self._control_left = 0.0  # bytes that the control side still expects; chunked: infinity
        self._task: asyncio.Task[None] | None = None
        self._mid_head = False
        self._keep_alive = True
        self._writing_paused = False

    # -- what the transport calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in a new connection, unless there are too many."""
        # Not checked with isinstance: uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)
        if not self._gateway.connections.admit(self):
            self._write_error(Unavailable("too many connections are open; try again", 1.0))
            self._state = CLOSED  # it may still be read from before it is
            self._transport.close()
            return
        self._register.add(self)
        self.deadline_s = self._now() + self._gateway.limits.head_timeout_s

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go: into the body's block, or to the scratch memory."""
        if self._state is BODY:
            return self._body[self._filled :]
        return self._gateway.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that have arrived where `get_buffer` said."""
        if self._state is BODY:
            self._filled += nbytes
            beyond = self._filled - len(self._body) + _SPARE_BYTES
            if beyond >= 0:
                end = len(self._body) - _SPARE_BYTES
                if beyond:
                    self._waiting += self._body[end : self._filled]
                self._answer(self._body[:end])
                self._advance()
            return
        self._waiting += self._gateway.scratch[:nbytes]
        if self._state is HEAD:
            self._advance()
        elif self._state is CONTROL and self._control_left:
            self._feed_control()
        elif self._state is LINGERING:
            self._waiting.clear()
        elif len(self._waiting) >= self._gateway.limits.max_head_bytes:
            # Pipelined requests wait in the kernel while one is being answered.
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; an answer that is under way is still delivered."""
        self._keep_alive = False
        answering = self._state in (BUSY, SENDING) or (
            self._state is CONTROL and not self._control_left
        )
        return answering and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; a request that is being answered is cancelled."""
        self._state = CLOSED
        self.deadline_s = math.inf
        self._body = memoryview(b"")
        self._gateway.connections.leave(self)
        self._register.discard(self)
        if self._control is not None:
            self._control.connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client takes the answer more slowly than it is written."""
        self._writing_paused = True
        if self._control is not None:
            self._control.pause_writing()
        self._time_control()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writing_paused = False
        if self._control is not None:
            self._control.resume_writing()
        self._time_control()
        if self._state is SENDING and not self._transport.is_closing():
            self._answered()
            self._advance()

    # -- what the register of connections calls ------------------------------------------------

    def expire(self) -> None:
        """A deadline has passed: answer 408 if a request had begun, and close."""
        if self._state in (SENDING, LINGERING) or self._writing_paused:
            self._transport.abort()
        elif self._state is HEAD and not self._mid_head:
            self._close()
        else:
            part = "head" if self._state is HEAD else "body"
            late = InvalidRequest(
                f"the request's {part} took too long to arrive", Code.RECEIVE_TIMEOUT
            )
            if self._state is CONTROL:
                self.control_refused(late)
            else:
                self._refuse(late)

    def close_idle(self) -> None:
        """Make room for another connection."""
        self._state = CLOSED  # it may still be read from before it is
        self._transport.abort()

    def shutdown(self) -> None:
        """The server is ending: close now if idle, else after the answer."""
        self._keep_alive = False
        if self._state is HEAD and not self._mid_head:
            self._close()
        elif self._state is CONTROL and self._control is not None:
            self._control.shutdown()

    # -- from head to answer -------------------------------------------------------------------

    def _advance(self) -> None:
        """Work off what is waiting, until a request is incomplete or being answered."""
        while self._state is HEAD and self._waiting:
            try:
                if not self._take_request():
                    return
            except PeltonError as error:
                self._refuse(error)

    def _take_request(self) -> bool:
        """Take one request off the waiting bytes; False if its head is not complete."""
        raw = cut_head(self._waiting, self._gateway.limits.max_head_bytes)
        if raw is None:
            if has_begun(self._waiting) and not self._mid_head:
                self._mid_head = True
                self._gateway.connections.busy(self)
                self.deadline_s = self._now() + self._gateway.limits.head_timeout_s
            return False
        self._head = head = self._gateway.heads.read(raw)
        self._gateway.connections.busy(self)
        self._keep_alive = head.keep_alive and not self._gateway.closing
        length = head.content_length
        if length is not None and length > self._gateway.max_body_bytes:
            raise InvalidRequest(
                f"the body has {length} bytes; at most {self._gateway.max_body_bytes} are taken",
                Code.TOO_LARGE,
            )
        target = _direct_target(head)
        if target is None or length is None:
            self._hand_to_control(raw)
        else:
            self._target = target
            self._begin_body(length)
        return True

    def _begin_body(self, length: int) -> None:
        """Answer at once if the body came with its head, else receive it into a block."""
        waiting = self._waiting
        if len(waiting) >= length:
            body = memoryview(bytes(waiting[:length]))
            del waiting[:length]
            self._answer(body)
            return
        if self._head.expects_continue and not waiting:
            self._transport.write(_CONTINUE)
        json_bytes = self._head.headers.get("inference-header-content-length", "")
        lead = int(json_bytes) if _NUMBER.fullmatch(json_bytes) else 0
        self._body = self._gateway.pool.take(length + _SPARE_BYTES, lead)
        self._filled = len(waiting)
        self._body[: self._filled] = waiting
        waiting.clear()
        self.deadline_s = self._now() + self._gateway.limits.body_timeout_s
        self._state = BODY

    def _answer(self, body: memoryview) -> None:
        self._state = BUSY
        self._body = memoryview(b"")
        self.deadline_s = math.inf
        self._task = eager.start(self._answer_and_send(body))

    async def _answer_and_send(self, body: memoryview) -> None:
        reply = await self._gateway.door.answer(self._target, self._head.headers, body)
        waited = self._task is not None
        self._task = None
        if self._state is BUSY:
            self._send(reply)
        if waited:
            self._advance()

    def _send(self, reply: Reply) -> None:
        keep_alive = self._keep_alive and not self._gateway.closing
        headers = self._server_state.default_headers
        self._transport.writelines(response_pieces(reply, keep_alive, headers))
        self._answered()

    def _answered(self) -> None:
        """Go on to the next request, but not before the client has taken this answer."""
        if self._gateway.closing or not self._keep_alive:
            self._close()
        elif self._writing_paused:
            self._await_client()
        else:
            self._next_request()

    def _close(self) -> None:
        """Close once the client has taken what is written; it has a limited time for that."""
        self._await_client()
        self._transport.close()

    def _await_client(self) -> None:
        self._state = SENDING
        self.deadline_s = self._now() + self._gateway.limits.send_timeout_s

    def _next_request(self) -> None:
        self._state = HEAD
        self._mid_head = False
        self._gateway.connections.idle(self)
        self.deadline_s = self._now() + self._gateway.limits.idle_timeout_s
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def _refuse(self, error: PeltonError) -> None:
        """Answer with an error, and close once the client has had time to read it.

        Closing at once, with bytes still unread, makes the kernel send a reset, which can
        overtake the answer; so what comes is read and thrown away for a while.
        """
        if not self._transport.is_closing():
            self._write_error(error)
        self._linger()

    def _linger(self) -> None:
        self._state = LINGERING
        self._body = memoryview(b"")
        self._waiting.clear()
        self.deadline_s = self._now() + LINGER_S
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _write_error(self, error: PeltonError) -> None:
        reply = error_reply(error, request_id(None))
        headers = self._server_state.default_headers
        self._transport.writelines(response_pieces(reply, False, headers))

    # -- the control side ----------------------------------------------------------------------

    def _hand_to_control(self, raw_head: bytes) -> None:
        """Let uvicorn's protocol answer this request."""
        if self._control is None:
            self._control = self._make_control(self)
            self._control.connection_made(self._transport)
        self._state = CONTROL
        length = self._head.content_length
        self._control_left = math.inf if length is None else length
        self.deadline_s = self._now() + self._gateway.limits.body_timeout_s
        self._control.begin(raw_head)
        if self._gateway.closing:
            self._control.shutdown()
        if self._waiting and self._control_left:
            self._feed_control()

    def _feed_control(self) -> None:
        assert self._control is not None
        waiting = self._waiting
        part = bytes(waiting[: int(min(self._control_left, len(waiting)))])
        del waiting[: len(part)]
        self._control_left -= len(part)
        self._control.data_received(part)
        if self._control.response_complete():
            self.control_done()

    def control_body_complete(self) -> None:
        """The control side has the whole request, and may take its time to answer."""
        self._control_left = 0
        self._time_control()

    def _time_control(self) -> None:
        """Once the request is in, only a client that does not take the answer is hurried."""
        if self._state is CONTROL and not self._control_left:
            patience_s = self._gateway.limits.send_timeout_s if self._writing_paused else math.inf
            self.deadline_s = self._now() + patience_s

    def control_done(self) -> None:
        """The control side has answered; the connection comes back once the body is in."""
        if self._state is CONTROL and not self._control_left:
            self._answered()
            self._advance()

    def control_closes(self) -> None:
        """The control side gives its last answer, or breaks it off."""
        assert self._control is not None
        self._keep_alive = False
        if not self._control.response_complete():
            self._transport.close()

    def control_refused(self, error: PeltonError) -> None:
        """The control side cannot go on with this request."""
        if self._control is None or self._state is not CONTROL:
            return
        self._control.abandon()
        if self._control.response_started():
            self._linger()
        else:
            self._refuse(error)


def _direct_target(head: RequestHead) -> Target | None:
    """Return the inference endpoint if the gate itself can receive and answer the request."""
    if head.method != "POST" or head.content_length is None:
        return None
    if "content-encoding" in head.headers or wants_compression(head.headers):
        return None
    return inference_target(head.path, head.query)
