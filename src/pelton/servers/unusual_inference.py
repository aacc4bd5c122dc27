"""Inference whose body came in chunks or compressed, or whose reply shall be compressed."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.servers.http_head import joined
from pelton.servers.inference import InferenceDoor
from pelton.servers.inference_call import (
    Headers,
    inference_target,
    read_call,
    refuse_coding,
    wants_compression,
)
from pelton.servers.replies import Reply, error_reply, request_id
from pelton.wire.inflate import deflate, inflate
from pelton.wire.limits import Limits


class UnusualInference:
    """Receives what the gate does not receive itself, and calls the same door."""

    def __init__(self, door: InferenceDoor, limits: Limits) -> None:
        self._door = door
        self._limits = limits

    async def answer(self, request: Request) -> Response:
        """Answer an inference request that came through the control application."""
        # Not `request.url`: it is put together from the Host header, which is the caller's word.
        query = request.scope["query_string"].decode("latin-1")
        target = inference_target(request.scope["path"], query)
        headers = joined(request.headers.raw)
        try:
            if target is None:
                raise InvalidRequest("Not Found", Code.NOT_FOUND)
            refuse_coding(headers)
            body = await self._body(request, headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except PeltonError as error:
            return as_response(error_reply(error, request_id(headers.get("x-request-id"))))
        origin = request.state.origin
        call = read_call(target, headers, _raw_target(request))
        reply = await self._door.answer(call, memoryview(body), origin)
        coding = wants_compression(headers)
        return as_response(reply) if coding is None else await _compressed(reply, coding)

    async def _body(self, request: Request, headers: Headers) -> bytes:
        # How much may come is the protocol's business: it counts while it receives.
        received = await request.body()
        coding = headers.get("content-encoding", "identity").lower()
        if coding == "identity":
            return received
        return await asyncio.to_thread(inflate, received, coding, self._limits.max_body_bytes)


def _raw_target(request: Request) -> str:
    path: str = request.scope["raw_path"].decode("latin-1")
    query: str = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


async def _compressed(reply: Reply, coding: str) -> Response:
    body = await asyncio.to_thread(deflate, reply.chunks, coding)
    headers = dict(reply.headers) | {"content-encoding": coding}
    return Response(body, reply.status, headers, reply.content_type)


def as_response(reply: Reply) -> Response:
    """Hand a reply to the control application's framework."""
    return Response(b"".join(reply.chunks), reply.status, dict(reply.headers), reply.content_type)
