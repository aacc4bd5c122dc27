"""The inference endpoints: body -> request -> the one verb -> reply.

Both ways into the server come here: `http_gate` with a body that lies in one block, and the
control application with one that came in chunks or compressed. So both give the same answers
and the same errors.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from pelton.clock import Clock
from pelton.engine.workers import Workers
from pelton.errors import Code, PeltonError
from pelton.messages import InferRequest, InferResponse, Value
from pelton.servers.inference_call import InferenceCall, deadline_of
from pelton.servers.model_choice import chosen_model
from pelton.servers.origin import Origin
from pelton.servers.replies import JSON, Reply, error_reply, new_request_id
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.stopwatch import Stopwatch
from pelton.servers.trusted_objects import TrustedObjects
from pelton.servers.user_formats import format_of
from pelton.servers.user_replies import (
    Headers,
    answered_by,
    encoded,
    headers_of,
    log_failure,
    told,
)
from pelton.specs import ModelMetadata
from pelton.trusted.verification import TrustedGate
from pelton.wire import oip_request, oip_response
from pelton.wire.limits import Limits
from pelton.wire.plain import reply_value, to_inputs

QUICK_BYTES = 16 * 1024
"""Up to so much that costs time for each element is read or written on the event loop."""

CODEC_THREADS = 2
"""They share the interpreter lock, so more would not be faster, but one could be hogged."""

NOBODY_TRUSTED = TrustedGate(None, 0.0)
"""Takes no objects but data, from nobody."""


class Engine(Protocol):
    """What the doors need of the engine."""

    async def infer(self, request: InferRequest) -> InferResponse: ...  # noqa: D102
    def refused(self, model: str, code: Code) -> None: ...  # noqa: D102
    def metadata(self, name: str, version: str | None = None) -> ModelMetadata: ...  # noqa: D102
    def names(self) -> list[str]: ...  # noqa: D102


class InferenceDoor:
    """Answers inference requests; never raises."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        default_model: str | None,
        regions: SharedRegions,
        clock: Clock = time.monotonic,
        trusted: TrustedGate = NOBODY_TRUSTED,
    ) -> None:
        """Make the door.

        Args:
            engine: answers what has been decoded.
            limits: what may come.
            default_model: answers at `/infer` where no model is named.
            regions: shared memory of clients.
            clock: the one on which requests arrive and deadlines are set.
            trusted: says whose objects are taken.
        """
        self._engine = engine
        self._limits = limits
        self._default_model = default_model
        self._regions = regions
        self._clock = clock
        self._trusted = TrustedObjects(engine, trusted, default_model, clock)
        # Long decoding and encoding goes here, where it does not hold up other connections.
        self._threads = Workers(CODEC_THREADS, "codec")

    async def answer(self, call: InferenceCall, body: memoryview, origin: Origin) -> Reply:
        """Answer one request.

        Args:
            call: what its head says.
            body: the whole body, uncompressed.
            origin: when it came, and whether from the server's own user.
        """
        log_id = call.request_id or new_request_id()
        try:
            if call.signed is not None:
                return await self._trusted.answer(call, call.signed, body, origin, log_id)
            if call.at_infer:
                return await self._users(call, body, origin, log_id)
            return await self._oip(call, body, origin, log_id)
        except PeltonError as error:
            return _refusal(error, log_id)
        except Exception as error:  # noqa: BLE001
            # Border: whatever goes wrong in one request must not take down the connection.
            failed = PeltonError("the server failed; its log tells more")
            failed.__cause__ = error
            return _refusal(failed, log_id)

    async def _oip(
        self, call: InferenceCall, body: memoryview, origin: Origin, log_id: str
    ) -> Reply:
        name = call.model or ""
        try:
            deadline_s = deadline_of(call, origin, self._clock)
            metadata = self._engine.metadata(name, call.version)
            header_bytes = call.header_bytes
            json_bytes = len(body) if header_bytes is None else header_bytes
            regions = self._regions.open_to(origin)
            reach = len(body) if regions is None else len(body) + regions.total_bytes
            parts = (body, header_bytes, metadata, self._limits, origin.arrived_s, regions)
            if json_bytes <= QUICK_BYTES and not _has_bytes(metadata, reach):
                request, plan = oip_request.decode_request(*parts)
            else:
                request, plan = await self._threads.run(oip_request.decode_request, *parts)
        except PeltonError as error:
            self._engine.refused(name, error.code)
            raise
        request.model = name
        request.version = call.version
        request.log_id = log_id
        request.key = call.key
        request.tenant = origin.caller.tenant
        if deadline_s < request.deadline_s:
            request.deadline_s = deadline_s
        watch = Stopwatch(self._clock, origin) if call.timing or plan.timing else None
        response = await self._engine.infer(request)
        told_last = None
        if watch is not None:
            watch.computed(response.timing)
            told_last = watch.parameters if plan.timing else None
        metadata = response.metadata or metadata  # of the version that answered
        if plan.all_binary or _is_small(response.outputs):
            encoded = oip_response.encode_response(response, plan, metadata, told_last)
        else:
            encoded = await self._threads.run(
                oip_response.encode_response, response, plan, metadata, told_last
            )
        extra = headers_of(response)
        if watch is not None and call.timing:
            extra = (*extra, watch.header())
        if encoded.header_bytes is None:
            return Reply(200, JSON, encoded.chunks, encoded.size, extra)
        extra = (_header_length(encoded.header_bytes), *extra)
        return Reply(200, "application/octet-stream", encoded.chunks, encoded.size, extra)

    async def _users(
        self, call: InferenceCall, body: memoryview, origin: Origin, log_id: str
    ) -> Reply:
        try:
            deadline_s = deadline_of(call, origin, self._clock)
            form = format_of(call.content_type)
            quick = form.is_quick(body)
            if quick:
                value, style = form.decode(body, self._limits)
            else:
                value, style = await self._threads.run(form.decode, body, self._limits)
        except PeltonError as error:
            self._engine.refused("", error.code)
            raise
        status = 200
        extra: Headers = ()
        watch = None
        try:
            request = await self._users_request(call, value, quick)
            request.log_id = log_id
            request.key = call.key
            request.tenant = origin.caller.tenant
            request.deadline_s = deadline_s
            watch = Stopwatch(self._clock, origin) if call.timing else None
            response = await self._engine.infer(request)
            if watch is not None:
                watch.computed(response.timing)
            extra = answered_by(response.model, response.version) + headers_of(response)
            quick = _is_small(response.outputs)
            said: object = reply_value(response)
        except PeltonError as error:
            (said, status, extra), watch = told(error, log_id), None
        if quick or form.writes_views:
            reply = encoded(form, said, style, status, extra)
        else:
            reply = await self._threads.run(encoded, form, said, style, status, extra)
        if watch is not None:
            reply.headers = (*reply.headers, watch.header())
        return reply

    async def _users_request(self, call: InferenceCall, value: Value, quick: bool) -> InferRequest:
        name = ""
        try:
            name = call.model or chosen_model(None, self._default_model, self._engine.names())
            metadata = self._engine.metadata(name)
            if quick or metadata.takes_objects:
                return InferRequest(name, to_inputs(value, metadata))
            return InferRequest(name, await self._threads.run(to_inputs, value, metadata))
        except PeltonError as error:
            self._engine.refused(name, error.code)
            raise


@functools.lru_cache(maxsize=256)
def _header_length(header_bytes: int) -> tuple[str, str]:
    return "inference-header-content-length", str(header_bytes)


def _refusal(error: PeltonError, log_id: str) -> Reply:
    log_failure(error, log_id)
    return error_reply(error, log_id)


def _has_bytes(metadata: ModelMetadata, size: int) -> bool:
    """Tell whether a body may hold many BYTES elements, each of which costs a step."""
    if size <= QUICK_BYTES:
        return False
    return metadata.takes_objects or any(spec.datatype == "BYTES" for spec in metadata.inputs)


def _is_small(outputs: Mapping[str, Value]) -> bool:
    """Tell whether outputs are quick to write element by element; of containers nobody knows."""
    size = 0
    for value in outputs.values():
        if isinstance(value, np.ndarray):
            size += value.nbytes
        elif isinstance(value, dict | list | tuple | str | bytes):
            return False
    return size <= QUICK_BYTES
