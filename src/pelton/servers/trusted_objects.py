"""Signed objects at `POST /infer`: who sent it is made sure of, and then a worker opens it.

    may the caller do this? -> which model -> does the signature hold? -> the one verb -> reply

A request with the header `X-Pelton-Signature` comes here and nowhere else: if anything about it is
wrong it is refused, and never read as data instead. Nothing of the body is decoded in this process.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

from pelton.clock import Clock
from pelton.engine.workers import Workers
from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.messages import InferRequest, InferResponse
from pelton.servers.inference_call import InferenceCall, SignedHead, deadline_of
from pelton.servers.model_choice import chosen_model
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply
from pelton.servers.stopwatch import Stopwatch
from pelton.servers.user_formats import PICKLE, format_of
from pelton.servers.user_replies import answered_by, encoded, headers_of, told
from pelton.trusted.verification import TrustedGate
from pelton.wire import pickle_frame
from pelton.wire.pickled import PickleStyle
from pelton.wire.plain import reply_value

THREADS = 2
"""They check signatures, which is as long as it takes to hash a body."""

METHOD = "POST"

Parts = tuple[memoryview, ...]


class Engine(Protocol):
    """What is needed of the engine."""

    async def infer(self, request: InferRequest) -> InferResponse: ...  # noqa: D102
    def refused(self, model: str, code: Code) -> None: ...  # noqa: D102
    def names(self) -> Sequence[str]: ...  # noqa: D102


class TrustedObjects:
    """Answers requests with signed objects."""

    def __init__(
        self, engine: Engine, gate: TrustedGate, default_model: str | None, clock: Clock
    ) -> None:
        """Take in the parts.

        Args:
            engine: answers, by the workers of the version that is chosen.
            gate: admits.
            default_model: answers where no model is named.
            clock: the server's.
        """
        self._engine = engine
        self._gate = gate
        self._default_model = default_model
        self._clock = clock
        self._threads = Workers(THREADS, "signatures")

    async def answer(
        self, call: InferenceCall, signed: SignedHead, body: memoryview, origin: Origin, log_id: str
    ) -> Reply:
        """Answer one request.

        Args:
            call: what its head says.
            signed: what it says of the signature.
            body: the whole body, as it was sent.
            origin: who sent it, and when.
            log_id: its name in the log.

        Raises:
            AccessDenied: such requests are not taken, not from this caller, or not with this
                signature.
            PeltonError: it cannot be taken for another reason. What goes wrong later is told in
                the caller's format.
        """
        name = ""
        try:
            self._gate.may_send(origin.caller)
            deadline_s = deadline_of(call, origin, self._clock)
            _check_form(call)
            name = call.model or chosen_model(None, self._default_model, self._engine.names())
            admitted = functools.partial(self._admitted, signed, name, body, origin, log_id)
            parts, style = await self._threads.run(admitted)
        except PeltonError as error:
            self._engine.refused(name, error.code)
            raise
        request = InferRequest(name, {}, deadline_s=deadline_s, log_id=log_id, signed=parts)
        request.key, request.tenant = call.key, origin.caller.tenant
        watch = Stopwatch(self._clock, origin) if call.timing else None
        status = 200
        try:
            response = await self._engine.infer(request)
            said: object = reply_value(response)
            extra = answered_by(response.model, response.version) + headers_of(response)
        except PeltonError as error:
            said, status, extra = told(error, log_id)
        else:
            if watch is not None:
                watch.computed(response.timing)
        reply = encoded(PICKLE, said, style, status, extra)
        if watch is not None and status == 200:
            reply.headers = (*reply.headers, watch.header())
        return reply

    def _admitted(
        self, signed: SignedHead, model: str, body: memoryview, origin: Origin, log_id: str
    ) -> tuple[Parts, PickleStyle]:
        """Use the signature up, and take the body apart; in a thread."""
        sent = (METHOD, signed.target, model, body)
        self._gate.admit(origin.caller, signed.signature, *sent, log_id)
        framed = pickle_frame.is_frame(body)
        parts: Parts = (body,)
        if framed:
            pickle, buffers = pickle_frame.split(body)
            parts = (pickle, *buffers)
        return parts, PickleStyle(protocol=5, old_numpy=True, out_of_band=framed)


def _check_form(call: InferenceCall) -> None:
    if not call.at_infer:
        raise InvalidRequest("signed objects are taken at /infer only")
    if format_of(call.content_type) is not PICKLE:
        raise InvalidRequest(
            "a signed object is a pickle: send it with Content-Type: application/octet-stream",
            Code.UNSUPPORTED_MEDIA,
        )
