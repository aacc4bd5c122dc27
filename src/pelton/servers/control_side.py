"""The control side of one connection: one request at a time is lent to uvicorn's protocol.

The gate hands over a head and then the bytes that come; this side passes on those that belong to
the request, has them paid for, and tells the gate when the connection comes back.

    lend -> feed, feed, ... -> (the body is in) -> (the response is out) -> gate.control_done
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from pelton.errors import PeltonError
from pelton.servers.body_bounds import SLOWEST_UPLOAD_BYTES_PER_S, BodyBound
from pelton.servers.control_protocol import ControlProtocol, Owner
from pelton.servers.gateway import Gateway
from pelton.servers.http_head import RequestHead
from pelton.servers.memory_budget import SMALL_BYTES, Charge
from pelton.servers.origin import Origin
from pelton.servers.refusals import no_memory, too_slow


class Lender(Protocol):
    """The gate, as this side sees it.

    Attributes:
        deadline_s: loop time at which the connection has to have moved on.
    """

    deadline_s: float

    def is_lent(self) -> bool:
        """Whether this side still has the connection."""

    def control_done(self) -> None:
        """The request is in and answered; the connection goes back."""

    def answer_is_last(self) -> None:
        """The connection ends with this answer."""

    def refuse(self, error: PeltonError) -> None:
        """Answer with an error and end."""

    def linger(self) -> None:
        """End, without an answer."""


class ControlSide:
    """Lends a connection to a `ControlProtocol`, and bounds what that may hold."""

    def __init__(
        self,
        gate: Lender,
        gateway: Gateway,
        transport: asyncio.Transport,
        waiting: bytearray,
        make_protocol: Callable[[Owner], ControlProtocol],
    ) -> None:
        """Prepare for requests.

        Args:
            gate: owns the connection.
            gateway: what all connections share.
            transport: the connection's.
            waiting: bytes that have come; what belongs to a request is taken off.
            make_protocol: makes uvicorn's side of it.
        """
        self._gate = gate
        self._gateway = gateway
        self._transport = transport
        self._waiting = waiting
        self._protocol = make_protocol(self)
        self._protocol.connection_made(transport)
        self._now = asyncio.get_running_loop().time
        self._left = 0.0  # bytes of the request that are still to come; chunked: infinity
        self._charge = Charge(gateway.budget, 0)
        self._asked_bytes = 0  # for which this side stands in line
        self._bound = BodyBound(0, 0)
        self._begun_s = 0.0
        self._writing_paused = False

    @property
    def wants_more(self) -> bool:
        """Whether some of the request is still to come."""
        return self._left > 0

    # -- what the gate calls -------------------------------------------------------------------

    def lend(self, raw_head: bytes, head: RequestHead, origin: Origin) -> None:
        """Have a request answered.

        Args:
            raw_head: its head, with the empty line.
            head: the same, read; what `Gateway.charge_of` says of it is charged already.
            origin: where it came from.
        """
        self._left = math.inf if head.content_length is None else head.content_length
        self._bound = self._gateway.bounds.of(head)
        self._charge = Charge(self._gateway.budget, self._gateway.charge_of(head))
        self._begun_s = self._now()
        self._gate.deadline_s = self._begun_s + self._gateway.limits.body_timeout_s
        self._protocol.begin(raw_head, origin, self._charge, self._bound.max_bytes)
        if self._gateway.closing:
            self._protocol.shutdown()
        if self._waiting and self._left:
            self.feed()

    def feed(self) -> None:
        """Pass on what has come of the request, if there is memory for all that may come."""
        size = int(min(self._left, len(self._waiting)))
        if self._asked_bytes:
            return
        if self._bound.is_upload:
            self._time_upload()
        elif self._left == math.inf and not self._has_memory(size):
            return
        part = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._left -= size
        self._protocol.data_received(part)
        if self._protocol.response_complete():
            self.control_done()

    def _has_memory(self, size: int) -> bool:
        """Charge a chunked body, or stand in line.

        Nobody knows how long it will be. One that turns out not to be small is charged with the
        most that it may have, before more of it is read, and in the end with what it had. Were
        it charged as it grows, several could wait for each other with all memory used up.
        """
        held, most = self._charge.held_bytes, self._gateway.max_body_bytes
        if held >= most:
            return True
        wanted = size if held + size <= SMALL_BYTES else most - held
        if self._gateway.budget.take(wanted):
            self._charge.add(wanted)
            return True
        self._transport.pause_reading()
        self._asked_bytes = wanted
        self._gate.deadline_s = self._now() + self._gateway.budget.patience_s
        self._gateway.budget.wait(self, wanted)
        return False

    def memory_granted(self) -> None:
        """Go on with a chunked body; its own time begins."""
        wanted, self._asked_bytes = self._asked_bytes, 0
        self._charge.add(wanted)
        self._gate.deadline_s = self._now() + self._gateway.limits.body_timeout_s
        self.resume_reading()
        self.feed()

    def expire(self) -> None:
        """The deadline has passed: of the wait for memory, or of the body."""
        self.control_refused(no_memory() if self._asked_bytes else too_slow("body"))

    def abandon(self) -> None:
        """The connection ends; the application is told, and the charge ends with its work."""
        self._leave_line()
        self._protocol.abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._leave_line()
        self._protocol.connection_lost(exc)

    def shutdown(self) -> None:
        """The answer under way is the last."""
        self._protocol.shutdown()

    def pause_writing(self) -> None:
        """The client is slow to take the answer; once its request is in, it has limited time."""
        self._writing_paused = True
        self._protocol.pause_writing()
        self._time_answer()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writing_paused = False
        self._protocol.resume_writing()
        self._time_answer()

    # -- what uvicorn's protocol calls -----------------------------------------------------------

    def resume_reading(self) -> None:
        """Read on, unless there is no memory for it."""
        if not self._asked_bytes and not self._transport.is_closing():
            self._transport.resume_reading()

    def control_body_complete(self) -> None:
        """The control side has the whole request, and may take its time to answer."""
        self._left = 0
        self._charge.shrink(self._protocol.body_bytes)
        self._time_answer()

    def control_done(self) -> None:
        """The control side has answered; the connection comes back once the body is in.

        It ends where that is the body of an upload, which may be gigabytes that nobody wants.
        """
        if not self._gate.is_lent():
            return
        if not self._left:
            self._gate.control_done()
        elif self.answers_early():
            self._gate.linger()

    def answers_early(self) -> bool:
        """Return whether an answer ends the connection now, since the rest will not be read."""
        return self._bound.is_upload and self._left > 0

    def control_closes(self) -> None:
        """The control side gives its last answer, or breaks it off."""
        self._gate.answer_is_last()
        if not self._protocol.response_complete():
            self._transport.close()

    def control_refused(self, error: PeltonError) -> None:
        """The control side cannot go on with this request."""
        if not self._gate.is_lent():
            return
        self.abandon()
        if self._protocol.response_started():
            self._gate.linger()
        else:
            self._gate.refuse(error)

    def _time_upload(self) -> None:
        """Give an upload more time for what has come of it, so that it has to go on."""
        earned_s = self._protocol.body_bytes / SLOWEST_UPLOAD_BYTES_PER_S
        body_s = self._gateway.limits.body_timeout_s
        self._gate.deadline_s = self._begun_s + body_s + earned_s

    def _leave_line(self) -> None:
        self._asked_bytes = 0
        self._gateway.budget.leave(self)

    def _time_answer(self) -> None:
        if self._gate.is_lent() and not self._left:
            patience_s = self._gateway.limits.send_timeout_s if self._writing_paused else math.inf
            self._gate.deadline_s = self._now() + patience_s
