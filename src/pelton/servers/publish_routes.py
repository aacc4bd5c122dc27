"""New versions of a model: published, listed, taken back.

`POST /v2/repository/models/{model}/versions` takes the bytes of a version as they are;
`POST /update_model` is the same for those who send forms.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Header, Query, Request, Response

from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.servers.model_choice import chosen_model
from pelton.servers.model_control import ModelControl, PublishedRow, UploadRequest, VersionRow
from pelton.servers.publish_progress import ProgressTeller, told
from pelton.servers.replies import JSON, error_reply, request_id
from pelton.servers.status import ServerStatus
from pelton.servers.uploads import file_in_form, pieces_of
from pelton.wire import strict_json
from pelton.wire.multipart import boundary_of

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_YES = {"1": True, "true": True, "0": False, "false": False}

_TAGS = ["Versions of models"]
_TEXT = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}

_UPDATED = "Policy updated successfully"


def router(control: ModelControl, status: ServerStatus) -> APIRouter:
    """Make the routes.

    Args:
        control: publishes, lists and takes back.
        status: knows which models are served.
    """
    routes = APIRouter(tags=list(_TAGS))
    _add_versions(routes, control)
    _add_publishing(routes, control)
    _add_update(routes, control, status)
    return routes


def _add_versions(routes: APIRouter, control: ModelControl) -> None:
    @routes.get(
        "/v2/repository/models/{model}/versions",
        summary="All versions of a model that are known, with their states",
    )
    async def versions(model: str) -> Response:
        rows = [_told_version(row) for row in await control.versions(model)]
        return _json({"model": model, "versions": rows})

    @routes.post(
        "/v2/repository/models/{model}/rollback",
        summary="Have the version answer that answered before",
    )
    async def rollback(request: Request, model: str) -> Response:
        return _json({"model": model, "version": await control.rollback(model, actor_of(request))})


def _add_publishing(routes: APIRouter, control: ModelControl) -> None:
    teller = ProgressTeller()

    @routes.post(
        "/v2/repository/models/{model}/versions",
        summary="Publish a new version",
        description=(
            "The body is a `.tar` of the version's folder, or, with `X-Pelton-File`, the model's "
            "file itself. The version passes the gates receive, check, load, warm, golden and swap "
            "before it answers; one that is refused at any of them changes nothing, and the answer "
            "says which gate refused it and why. With `progress=1` the answer is a stream of "
            'server-sent events: `data: {"gate": "load"}` for each gate as it is entered, and in '
            "the end the result or the error."
        ),
        openapi_extra=_UPLOAD,
    )
    async def publish(request: Request, model: str) -> Response:
        upload, progress = _announced(request)
        control.check_may_publish(model, upload.version)
        await asyncio.sleep(0)  # requests to models that have come meanwhile go first

        async def run(
            chunks: AsyncIterator[bytes], progress: Callable[[str], None]
        ) -> PublishedRow:
            return await control.publish(model, upload, chunks, actor_of(request), progress)

        async with contextlib.aclosing(pieces_of(request)) as chunks:
            if progress:
                return await teller.answer(run, chunks, _id_of(request))
            return _json(told(await run(chunks, _nobody)))


def _add_update(routes: APIRouter, control: ModelControl, status: ServerStatus) -> None:
    @routes.post(
        "/update_model",
        summary="Replace the model by a new version, sent as a form",
        description=(
            "`file` is a `.tar` of the model's folder, `device` where it shall run. Which model is "
            "meant has to be said only where several are served and there is no default. The "
            "version passes the same gates as any other."
        ),
        openapi_extra=_FORM,
    )
    async def update(
        request: Request,
        model: str | None = Query(None, description="Needed where several models are served"),
        x_pelton_model: str | None = Header(None, include_in_schema=False),
    ) -> Response:
        try:
            asked = model or x_pelton_model
            name = chosen_model(asked, status.default_model, status.engine.names())
            await _update(request, name, control)
        except PeltonError as error:
            return _in_users_shape(error, _id_of(request))
        return _json({"message": _UPDATED})


async def _update(request: Request, name: str, control: ModelControl) -> None:
    _check_plain(request)
    boundary = boundary_of(request.headers.get("content-type"))
    control.check_may_publish(name, None)
    upload = UploadRequest()
    form = file_in_form(pieces_of(request), boundary, upload)
    async with contextlib.aclosing(form) as chunks:
        await control.publish(name, upload, chunks, actor_of(request), _nobody)


def actor_of(request: Request) -> str:
    """Return the id of the key that asks; empty where no keys are used."""
    return str(request.state.origin.caller.key_id)


def _announced(request: Request) -> tuple[UploadRequest, bool]:
    """Read what is said of an upload before its bytes, and whether its progress shall be told."""
    _check_plain(request)
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("multipart/"):
        raise InvalidRequest(
            "send the .tar itself as the body, such as `curl --data-binary @model.tar`; forms are "
            "taken at /update_model",
            Code.UNSUPPORTED_MEDIA,
        )
    digest = request.headers.get("x-pelton-digest", "").strip().lower()
    if digest and _DIGEST.fullmatch(digest) is None:
        raise InvalidRequest(
            f"X-Pelton-Digest is {digest!r:.100}; it has to be sha256: and 64 hexadecimal digits"
        )
    version = _asked_once(request, "version")
    if version is not None and _VERSION.fullmatch(version) is None:
        raise InvalidRequest(f"the version is {version!r:.60}; it has to be a number from 1 on")
    progress = _YES.get(_asked_once(request, "progress") or "0")
    if progress is None:
        raise InvalidRequest("progress can only be 1 or 0")
    upload = UploadRequest(
        version=None if version is None else int(version),
        digest=digest,
        file_name=request.headers.get("x-pelton-file", ""),
    )
    return upload, progress


def _check_plain(request: Request) -> None:
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise InvalidRequest(
            f"the upload is compressed ({coding:.40}); send it plain", Code.UNSUPPORTED_MEDIA
        )


def _asked_once(request: Request, name: str) -> str | None:
    found = request.query_params.getlist(name)
    if len(found) > 1:
        raise InvalidRequest(f"the query has {name} {len(found)} times; say it once")
    return found[0] if found else None


def _id_of(request: Request) -> str:
    return request_id(request.headers.get("x-request-id"))


def _nobody(_gate: str) -> None:
    """Stand for a listener where progress is not asked for."""


def _told_version(row: VersionRow) -> dict[str, Any]:
    return {
        "version": row.version,
        "state": row.state,
        "reason": row.reason,
        "digest": row.digest,
        "published_s": row.published_s,
        "active": row.active,
        "kept": row.kept,
        "on_probation": row.on_probation,
        "labels": list(row.labels),
    }


def _in_users_shape(error: PeltonError, of_request: str) -> Response:
    """Answer with the users' own keys, beside those of every error."""
    reply = error_reply(error, of_request)
    body = {
        "status": "error",
        "message": error.message.encode("utf-8", "replace").decode(),
        "error": error.message.encode("utf-8", "replace").decode(),
        "code": str(error.code),
        "request_id": of_request,
    }
    return Response(strict_json.dumps(body), reply.status, dict(reply.headers), JSON)


def _json(value: object) -> Response:
    return Response(strict_json.dumps(value), media_type=JSON)


_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/x-tar": {"schema": _BINARY}},
    },
    "parameters": [
        {
            "name": "version",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1},
            "description": "Which version it shall become; the next free one if left out",
        },
        {
            "name": "progress",
            "in": "query",
            "schema": {"type": "string", "enum": ["1", "0"]},
            "description": "Tell of each gate while it goes on, as server-sent events",
        },
        {
            "name": "X-Pelton-Digest",
            "in": "header",
            "schema": _TEXT,
            "description": "`sha256:HEX` of the body, compared with what came",
        },
        {
            "name": "X-Pelton-File",
            "in": "header",
            "schema": _TEXT,
            "description": "Name of the model's file, such as `model.onnx`, if the body is that",
        },
    ],
}

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY, "device": {**_TEXT, "examples": ["cuda:0"]}},
                }
            }
        },
    }
}
