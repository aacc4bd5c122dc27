"""The inference endpoints: body -> request -> the one verb -> reply.

Both ways into the server come here: `http_gate` with a body that lies in one block, and the
control application with one that came in chunks or compressed. So both give the same answers
and the same errors.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs

import numpy as np

from pelton.clock import Clock
from pelton.engine.workers import Workers
from pelton.errors import Code, ModelFailed, PeltonError
from pelton.messages import InferRequest, InferResponse, Value
from pelton.servers.model_choice import chosen_model
from pelton.servers.origin import Origin
from pelton.servers.replies import JSON, Reply, error_reply, request_id, retry_headers
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.terms import Stopwatch, deadline_of, wants_timing
from pelton.servers.user_formats import Format, format_of
from pelton.specs import ModelMetadata
from pelton.wire import oip_message, oip_request, oip_response
from pelton.wire.limits import Limits
from pelton.wire.plain import error_value, reply_value, to_inputs
from pelton.wire.status import http_status

logger = logging.getLogger("pelton.inference")

_OIP_PATH = re.compile(r"/v2/models/([^/%]+)(?:/versions/([^/%]+))?/infer")

QUICK_BYTES = 16 * 1024
"""Up to so much that costs time for each element is read or written on the event loop."""

CODEC_THREADS = 2
"""They share the interpreter lock, so more would not be faster, but one could be hogged."""

Headers = Mapping[str, str]


class Engine(Protocol):
    """What the doors need of the engine."""

    async def infer(self, request: InferRequest) -> InferResponse: ...  # noqa: D102
    def refused(self, model: str, code: Code) -> None: ...  # noqa: D102
    def metadata(self, name: str, version: str | None = None) -> ModelMetadata: ...  # noqa: D102
    def names(self) -> list[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Target:
    """Which endpoint a request is for.

    Attributes:
        model: the model in the path; None at `/infer`, where query or header name it.
        version: the version in the path, if any.
        query: the query string.
    """

    model: str | None
    version: str | None = None
    query: str = ""


@functools.lru_cache(maxsize=256)
def inference_target(path: str, query: str) -> Target | None:
    """Return the inference endpoint that a path names, or None for any other path."""
    if path == "/infer":
        return Target(None, None, query)
    found = _OIP_PATH.fullmatch(path)
    return Target(found[1], found[2], query) if found else None


def wants_compression(headers: Headers) -> str | None:
    """Return the coding that the caller asks the reply to be in, or None.

    HTTP libraries list all codings that they could read in every request. Compressing tensors
    for each of them would cost far more time than it saves, so only an `Accept-Encoding` that
    names exactly one coding counts as asking.
    """
    coding = headers.get("accept-encoding", "").strip().lower()
    return coding if coding in ("gzip", "deflate") else None


class InferenceDoor:
    """Answers inference requests; never raises."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        default_model: str | None,
        regions: SharedRegions,
        clock: Clock = time.monotonic,
    ) -> None:
        """Make the door.

        Args:
            engine: answers what has been decoded.
            limits: what may come.
            default_model: answers at `/infer` where no model is named.
            regions: shared memory of clients.
            clock: the one on which requests arrive and deadlines are set.
        """
        self._engine = engine
        self._limits = limits
        self._default_model = default_model
        self._regions = regions
        self._clock = clock
        # Long decoding and encoding goes here, where it does not hold up other connections.
        self._threads = Workers(CODEC_THREADS, "codec")

    async def answer(
        self, target: Target, headers: Headers, body: memoryview, origin: Origin
    ) -> Reply:
        """Answer one request.

        Args:
            target: the endpoint.
            headers: lower-case name -> value.
            body: the whole body, uncompressed.
            origin: when it came, and whether from the server's own user.
        """
        log_id = request_id(headers.get("x-request-id"))
        try:
            if target.model is None:
                return await self._users(target, headers, body, origin, log_id)
            return await self._oip(target, headers, body, origin, log_id)
        except PeltonError as error:
            return _refusal(error, log_id)
        except Exception as error:  # noqa: BLE001
            # Border: whatever goes wrong in one request must not take down the connection.
            failed = PeltonError("the server failed; its log tells more")
            failed.__cause__ = error
            return _refusal(failed, log_id)

    async def _oip(
        self, target: Target, headers: Headers, body: memoryview, origin: Origin, log_id: str
    ) -> Reply:
        name = target.model or ""
        try:
            deadline_s = deadline_of(headers, origin, self._clock)
            metadata = self._engine.metadata(name, target.version)
            length = headers.get("inference-header-content-length")
            header_bytes = None if length is None else oip_message.parse_header_length(length)
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
        request.version = target.version
        request.log_id = log_id
        if deadline_s < request.deadline_s:
            request.deadline_s = deadline_s
        in_header = wants_timing(headers)
        watch = Stopwatch(self._clock, origin) if in_header or plan.timing else None
        response = await self._engine.infer(request)
        told_last = None
        if watch is not None:
            watch.computed(response.timing)
            told_last = watch.parameters if plan.timing else None
        answer = (response, plan, metadata, told_last)
        if plan.all_binary or _is_small(response.outputs):
            encoded = oip_response.encode_response(*answer)
        else:
            encoded = await self._threads.run(oip_response.encode_response, *answer)
        extra = _digest_header(response)
        if watch is not None and in_header:
            extra = (*extra, watch.header())
        if encoded.header_bytes is None:
            return Reply(200, JSON, encoded.chunks, encoded.size, extra)
        extra = (("inference-header-content-length", str(encoded.header_bytes)), *extra)
        return Reply(200, "application/octet-stream", encoded.chunks, encoded.size, extra)

    async def _users(
        self, target: Target, headers: Headers, body: memoryview, origin: Origin, log_id: str
    ) -> Reply:
        try:
            deadline_s = deadline_of(headers, origin, self._clock)
            form = format_of(headers.get("content-type"))
            quick = form.is_quick(body)
            if quick:
                value, style = form.decode(body, self._limits)
            else:
                value, style = await self._threads.run(form.decode, body, self._limits)
        except PeltonError as error:
            self._engine.refused("", error.code)
            raise
        status = 200
        extra: tuple[tuple[str, str], ...] = ()
        watch = None
        try:
            request = await self._users_request(target, headers, value, quick)
            request.log_id = log_id
            request.deadline_s = deadline_s
            watch = Stopwatch(self._clock, origin) if wants_timing(headers) else None
            response = await self._engine.infer(request)
            if watch is not None:
                watch.computed(response.timing)
            extra = _digest_header(response)
            said, quick = reply_value(response), _is_small(response.outputs)
        except PeltonError as error:
            _log_failure(error, log_id)
            said = error_value(error.message) | {
                "error": error.message,
                "code": str(error.code),
                "request_id": log_id,
            }
            status, extra, watch = http_status(error.code), retry_headers(error), None
        if quick or form.writes_views:
            reply = _encoded(form, said, style, status, extra)
        else:
            reply = await self._threads.run(_encoded, form, said, style, status, extra)
        if watch is not None:
            reply.headers = (*reply.headers, watch.header())
        return reply

    async def _users_request(
        self, target: Target, headers: Headers, value: Value, quick: bool
    ) -> InferRequest:
        name = ""
        try:
            name = self._chosen_model(target.query, headers)
            metadata = self._engine.metadata(name)
            if quick or metadata.takes_objects:
                return InferRequest(name, to_inputs(value, metadata))
            return InferRequest(name, await self._threads.run(to_inputs, value, metadata))
        except PeltonError as error:
            self._engine.refused(name, error.code)
            raise

    def _chosen_model(self, query: str, headers: Headers) -> str:
        asked = _model_in(query) or headers.get("x-pelton-model")
        return chosen_model(asked, self._default_model, self._engine.names())


def _digest_header(response: InferResponse) -> tuple[tuple[str, str], ...]:
    return (("x-pelton-digest", response.digest),) if response.digest else ()


def _refusal(error: PeltonError, log_id: str) -> Reply:
    _log_failure(error, log_id)
    return error_reply(error, log_id)


@functools.lru_cache(maxsize=256)
def _model_in(query: str) -> str | None:
    return parse_qs(query).get("model", [None])[0]


def _log_failure(error: PeltonError, told: str) -> None:
    if error.code in (Code.MODEL_FAILED, Code.INTERNAL):
        logger.error("request %s: %s", told, error.message, exc_info=error.__cause__)


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


def _encoded(
    form: Format, said: object, style: object, status: int, extra: tuple[tuple[str, str], ...]
) -> Reply:
    try:
        chunks = form.encode(said, style)
    except TypeError as error:
        raise ModelFailed(f"the model's output cannot be sent: {error}") from error
    return Reply(status, form.media_type, chunks, sum(map(len, chunks)), extra)
