"""The HTTP door: one object per connection, between the socket and everything else.

Where the bytes of a connection go, request by request:

    HEAD      the head is gathered and checked
     |-> QUEUED    there is no memory for the body: it stays with the client until there is
     |-> BODY      an inference: its body is received straight into one aligned block
     |    `-> BUSY      the door answers; what the client sends meanwhile waits here
     |         `-> SENDING   the client is slow to take the answer
     `-> CONTROL   anything else, or an unusual framing: uvicorn's own protocol and the control
                   application answer; then the connection comes back to HEAD

The gate keeps the limits that uvicorn has not: size and time of head and body, memory, number of
connections, strict framing. It stays the transport's protocol and passes bytes on, so it sees
every byte and knows where each request ends.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

from pelton.engine import eager
from pelton.errors import PeltonError
from pelton.servers.answer_writer import GOODBYE_S, LINGER_S, PROBE_S, AnswerWriter
from pelton.servers.control_protocol import ControlProtocol, Owner
from pelton.servers.control_side import ControlSide
from pelton.servers.entrance import Entrance
from pelton.servers.gate_states import GateState
from pelton.servers.gateway import Gateway
from pelton.servers.http_head import RequestHead, cut_head, has_begun
from pelton.servers.incoming_body import SPARE_BYTES, IncomingBody
from pelton.servers.inference_call import InferenceCall
from pelton.servers.origin import Origin
from pelton.servers.refusals import no_memory, too_many_connections, too_slow

HEAD, QUEUED, BODY, BUSY, SENDING, CONTROL, LINGERING, CLOSED = GateState


class HttpGate(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        deadline_s: loop time at which it has to have moved on.
    """

    def __init__(
        self,
        gateway: Gateway,
        server_state: ServerState,
        make_control: Callable[[Owner], ControlProtocol],
        is_same_user: Callable[[asyncio.BaseTransport], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.deadline_s = math.inf
        self._gateway = gateway
        self._server_state = server_state
        # uvicorn looks here for what it has to shut down; it calls nothing but `shutdown`.
        self._register: set[Any] = cast("set[Any]", server_state.connections)
        self._make_control = make_control
        self._control: ControlSide | None = None
        self._is_same_user = is_same_user
        self._now: Callable[[], float] = loop.time
        self._transport: asyncio.Transport
        self._writer: AnswerWriter
        self._entrance: Entrance
        self._state = HEAD
        self._waiting = bytearray()  # received and not yet looked at
        self._read_s = self._arrived_s = 0.0  # when the last, and the first, of it came
        self._origin: Origin
        self._head: RequestHead
        self._raw_head = b""
        self._body = IncomingBody()
        self._task: asyncio.Task[None] | None = None
        self._mid_head = False
        self._keep_alive = True

    # -- what the transport calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in a new connection, unless there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._writer = AnswerWriter(self._transport, self._gateway, self._server_state)
        self._writer.bound_buffer()
        if not self._gateway.connections.admit(self):
            self._writer.tell(too_many_connections())
            self._state = CLOSED  # it may still be read from before it is
            self._transport.close()
            return
        same_user = self._is_same_user(transport)
        self._entrance = Entrance(self._gateway.access, transport, same_user)
        self._register.add(self)
        self.deadline_s = self._now() + self._gateway.limits.head_timeout_s

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go: into the body's block, or to the scratch memory."""
        if self._state is BODY:
            return self._body.room()
        return self._gateway.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that have arrived where `get_buffer` said."""
        if self._state is BODY:
            if self._body.received(nbytes):
                body, beyond = self._body.take()
                if beyond:
                    self._read_s = self._arrived_s = time.monotonic()
                    self._waiting += beyond
                del beyond  # which would keep the block while the model runs
                self._answer(body, 0)
                self._advance()
            return
        self._read_s = time.monotonic()
        data = bytes(self._gateway.scratch[:nbytes])
        if not self._waiting:
            self._arrived_s = self._read_s
            if self._state is HEAD and self._take_whole(data):
                return
        self._waiting += data
        if self._state is HEAD:
            self._advance()
        elif self._control is not None and self._state is CONTROL and self._control.wants_more:
            self._control.feed()
        elif self._state is LINGERING:
            self._waiting.clear()
        elif len(self._waiting) >= self._gateway.limits.max_head_bytes:
            # Pipelined requests wait in the kernel while one is being answered.
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; an answer that is under way is still delivered."""
        self._keep_alive = False
        self._probe()
        answering = self._state in (BUSY, SENDING) or (
            self._state is CONTROL and self._control is not None and not self._control.wants_more
        )
        return answering and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; a request that is being answered is cancelled."""
        self._state, self.deadline_s = CLOSED, math.inf
        self._body.drop()
        self._gateway.connections.leave(self)
        self._gateway.budget.leave(self)
        self._register.discard(self)
        self._writer.resume()
        if self._control is not None:
            self._control.connection_lost(exc)
        if self._task is not None:
            self._task.cancel()
            self._task = None  # which would keep the body by way of what it was cancelled in

    def pause_writing(self) -> None:
        """The client takes the answer more slowly than it is written."""
        self._writer.pause(self._state is CONTROL)
        if self._control is not None:
            self._control.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writer.resume()
        if self._control is not None:
            self._control.resume_writing()
        if self._state is SENDING and not self._transport.is_closing():
            self._answered()
            self._advance()

    # -- what the register of connections, and the line for memory, call ---------------------------

    def expire(self) -> None:
        """A deadline has passed: say so if a request had begun, and close."""
        if self._state in (SENDING, LINGERING) or self._writer.paused:
            self._transport.abort()
        elif self._state is BUSY:
            self._probe()
        elif self._state is QUEUED:
            self.refuse(no_memory())
        elif self._state is CONTROL and self._control is not None:
            self._control.expire()
        elif self._state is HEAD and not self._mid_head:
            self._close(GOODBYE_S)
        else:
            self.refuse(too_slow("head" if self._state is HEAD else "body"))

    def _probe(self) -> None:
        if self._state is BUSY and self._head.takes_interim:
            self._writer.probe()
            self.deadline_s = self._now() + PROBE_S

    def close_idle(self) -> None:
        """Make room for another connection."""
        self._state = CLOSED  # it may still be read from before it is
        self._transport.abort()

    def shutdown(self) -> None:
        """The server is ending: close now if idle, else after the answer."""
        self._keep_alive = False
        if self._state is HEAD and not self._mid_head:
            self._close(GOODBYE_S)
        elif self._state is CONTROL and self._control is not None:
            self._control.shutdown()

    def memory_granted(self) -> None:
        """Begin with the body that there was no memory for."""
        self._state = HEAD
        self._transport.resume_reading()
        self._begin(self._raw_head)
        self._advance()

    # -- from head to answer -------------------------------------------------------------------

    def _advance(self) -> None:
        """Work off what is waiting, until a request is incomplete or being answered."""
        while self._state is HEAD and self._waiting:
            try:
                if not self._take_request():
                    return
            except PeltonError as error:
                self.refuse(error)

    def _take_whole(self, data: bytes) -> bool:
        """Answer an inference that came in one piece: the short cut of small requests."""
        head, body = self._gateway.heads.whole(data, self._entrance.head)
        fits = len(body) <= self._gateway.max_body_bytes
        if head is None or head.call is None or not (fits and self._gateway.budget.take(len(body))):
            return False
        try:
            self._open(head)
        except PeltonError:
            self._gateway.budget.give_back(len(body))
            return False  # and the long way says why
        self._answer(body, len(body))
        return True

    def _take_request(self) -> bool:
        """Take one request off the waiting bytes; False if its head is not complete."""
        raw = cut_head(self._waiting, self._gateway.limits.max_head_bytes)
        if raw is None:
            if has_begun(self._waiting) and not self._mid_head:
                self._mid_head = True
                self._gateway.connections.busy(self)
                self.deadline_s = self._now() + self._gateway.limits.head_timeout_s
            return False
        head = self._gateway.heads.read(raw)
        try:
            self._open(head)
        except PeltonError as refusal:
            return self._turn_away(head, refusal)
        charged = self._gateway.charge_of(head)
        if charged and not self._gateway.budget.take(charged):
            self._stand_in_line(raw, charged)
        else:
            self._begin(raw)
        return True

    def _open(self, head: RequestHead) -> None:
        self._head = head
        self._gateway.connections.busy(self)
        self._keep_alive = head.keep_alive and not self._gateway.closing
        arrived_s, self._arrived_s = self._arrived_s, self._read_s  # the next may be there already
        self._origin = self._entrance.admit(head, arrived_s)

    def _turn_away(self, head: RequestHead, refusal: PeltonError) -> bool:
        """Refuse a request; the connection goes on if all of it is here."""
        length = head.content_length
        if length is None or len(self._waiting) < length or head.method == "HEAD":
            raise refusal
        del self._waiting[:length]
        self._writer.tell(refusal, self._keep_alive, head.headers.get("x-request-id"))
        self._answered()
        return True

    def _stand_in_line(self, raw: bytes, length: int) -> None:
        """Do not read on before there is memory; the body's own time begins then."""
        self._raw_head = raw
        self._state = QUEUED
        self._transport.pause_reading()
        self.deadline_s = self._now() + self._gateway.budget.patience_s
        self._gateway.budget.wait(self, length)

    def _begin(self, raw_head: bytes) -> None:
        """Go on with a request whose body is charged."""
        length = self._head.content_length
        if self._head.call is not None and length is not None:
            self._begin_body(length)
            return
        if self._control is None:
            self._control = ControlSide(
                self, self._gateway, self._transport, self._waiting, self._make_control
            )
        self._state = CONTROL
        self._control.lend(raw_head, self._head, self._origin)

    def _begin_body(self, length: int) -> None:
        """Answer at once if the body came with its head, else receive it into a block."""
        waiting = self._waiting
        if len(waiting) >= length:
            body = memoryview(bytes(waiting[:length]))
            del waiting[:length]
            self._answer(body, length)
            return
        if self._head.expects_continue and not waiting:
            self._writer.ask_for_body()
        call = cast("InferenceCall", self._head.call)
        freed = functools.partial(self._gateway.budget.freed, length)
        block = self._gateway.pool.take(length + SPARE_BYTES, call.header_bytes or 0, freed)
        self._body.begin(block, waiting)
        waiting.clear()
        self.deadline_s = self._now() + self._gateway.limits.body_timeout_s
        self._state = BODY

    def _answer(self, body: memoryview, charged: int) -> None:
        """Have the door answer; `charged` goes back after it, unless the body's block says when."""
        self._state = BUSY
        self.deadline_s = math.inf
        self._task = eager.start(self._answer_and_send(body, charged))

    async def _answer_and_send(self, body: memoryview, charged: int) -> None:
        call = cast("InferenceCall", self._head.call)
        try:
            reply = await self._gateway.door.answer(call, body, self._origin)
        finally:
            if charged:
                self._gateway.budget.give_back(charged)
        waited = self._task is not None
        self._task = None
        if self._state is BUSY:
            goes_on = self._keep_alive and not self._gateway.closing
            self._writer.write(reply, goes_on, call.request_id)
            self._answered()
        if waited:
            self._advance()

    def _answered(self) -> None:
        """Go on to the next request, but not before the client has taken this answer."""
        if self._gateway.closing or not self._keep_alive:
            self._close()
        elif self._writer.paused:
            self._await_client()
        else:
            self._next_request()

    def _close(self, patience_s: float | None = None) -> None:
        """Close once the client has taken what is written; it has a limited time for that."""
        self._await_client(patience_s)
        self._transport.close()

    def _await_client(self, patience_s: float | None = None) -> None:
        self._state = SENDING
        self.deadline_s = self._now() + (patience_s or self._gateway.limits.send_timeout_s)

    def _next_request(self) -> None:
        self._state = HEAD
        self._mid_head = False
        self._gateway.connections.idle(self)
        self.deadline_s = self._now() + self._gateway.limits.idle_timeout_s
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def refuse(self, error: PeltonError) -> None:
        """Answer with an error, and close once the client has had time to read it.

        Closing at once, with bytes still unread, makes the kernel send a reset, which can
        overtake the answer; so what comes is read and thrown away for a while.
        """
        if not self._transport.is_closing():
            self._writer.tell(error)
        self.linger()

    def linger(self) -> None:
        """Say no more, and close once the client has had time to read what was said."""
        self._state = LINGERING
        self._body.drop()
        self._waiting.clear()
        self._gateway.budget.leave(self)
        self.deadline_s = self._now() + LINGER_S
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._writer.end()

    # -- what the control side calls -----------------------------------------------------------

    def is_lent(self) -> bool:
        """Whether the control side has the connection."""
        return self._state is CONTROL

    def control_done(self) -> None:
        """The control side has answered, and the body is in."""
        self._answered()
        self._advance()

    def answer_is_last(self) -> None:
        """The control side ends the connection with this answer."""
        self._keep_alive = False
