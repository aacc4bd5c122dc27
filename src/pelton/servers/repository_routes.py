"""Triton's model repository extension: the index, and models loaded and unloaded by request.

Server extension documents of Triton, `extension_model_repository.md`; `tritonclient` calls these
paths. Loading and unloading are refused unless the server was started for it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from pelton.errors import Code, InvalidRequest
from pelton.servers.model_control import IndexRow, ModelControl
from pelton.servers.publish_routes import actor_of
from pelton.servers.replies import JSON
from pelton.wire import strict_json
from pelton.wire.limits import Limits
from pelton.wire.oip_message import checked_object

_FILE = "file:"

_TAGS = ["Open Inference Protocol"]

_SMALL_BYTES = 16 * 1024
"""Longer orders are read in a thread."""


class _LoadOrder(NamedTuple):
    """What a request to load says: `ModelControl.load`."""

    config: str | None
    files: dict[str, bytes]


def router(control: ModelControl, limits: Limits) -> APIRouter:
    """Make the routes.

    Args:
        control: keeps the models.
        limits: what a request may hold; one to load may carry the model's files.
    """
    routes = APIRouter(prefix="/v2/repository", tags=list(_TAGS))
    _add_index(routes, control, limits)
    _add_loading(routes, control, limits)
    return routes


def _add_index(routes: APIRouter, control: ModelControl, limits: Limits) -> None:
    @routes.post(
        "/index",
        summary="All versions of all models in the repository, with their states",
        openapi_extra=_body({"ready": {"type": "boolean", "default": False}}),
    )
    async def index(request: Request) -> Response:
        fields = checked_object(await _body_of(request, limits), ("ready",), "the question")
        ready = fields.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest(f'"ready" must be true or false, not {ready!r:.40}')
        rows = [_told(row) for row in control.index(ready)]
        return Response(strict_json.dumps(rows), media_type=JSON)


def _add_loading(routes: APIRouter, control: ModelControl, limits: Limits) -> None:
    @routes.post(
        "/models/{model}/load",
        summary="Load a model, or load it again from its folder",
        openapi_extra=_body({"parameters": {"type": "object"}}),
    )
    async def load(request: Request, model: str) -> Response:
        order = await _load_order(request, limits)
        await control.load(model, order.config, order.files, actor_of(request))
        return Response()

    @routes.post(
        "/models/{model}/unload",
        summary="Let a model finish what it has begun, and unload it",
        openapi_extra=_body({"parameters": {"type": "object"}}),
    )
    async def unload(request: Request, model: str) -> Response:
        parameters = _parameters(await _body_of(request, limits))
        checked_object(parameters, ("unload_dependents",), "the parameters")
        if not isinstance(parameters.get("unload_dependents", False), bool):
            raise InvalidRequest('"unload_dependents" must be true or false')
        await control.unload(model, actor_of(request))
        return Response()


async def _load_order(request: Request, limits: Limits) -> _LoadOrder:
    parameters = _parameters(await _body_of(request, limits))
    config = parameters.pop("config", None)
    if not (config is None or isinstance(config, str)):
        raise InvalidRequest('"config" must be the text of a JSON object')
    checked_object(
        {name: None for name in parameters if not name.startswith(_FILE)},
        ("config", "file:PATH"),
        "the parameters",
    )
    if parameters and config is None:
        raise InvalidRequest('files can only be sent together with a "config"')
    if sum(len(text) for text in parameters.values() if isinstance(text, str)) <= _SMALL_BYTES:
        return _LoadOrder(config, _files(parameters))
    return _LoadOrder(config, await asyncio.to_thread(_files, parameters))


def _files(parameters: dict[str, Any]) -> dict[str, bytes]:
    """Read the files of a request to load: `file:PATH` and base64."""
    files = {}
    for name, text in parameters.items():
        try:
            files[name.removeprefix(_FILE)] = base64.b64decode(text, validate=True)
        except (ValueError, TypeError, binascii.Error):
            raise InvalidRequest(f"the parameter {name!r:.80} must be a file in base64") from None
    return files


def _parameters(fields: Any) -> dict[str, Any]:
    parameters = checked_object(fields, ("parameters",), "the request").get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest('"parameters" must be a JSON object')
    return dict(parameters)


async def _body_of(request: Request, limits: Limits) -> Any:
    """Read a body of JSON; none at all stands for an empty object, as clients send it."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("the body is compressed; send it plain", Code.UNSUPPORTED_MEDIA)
    try:
        body = await request.body()  # how much may come is the protocol's business
    except ClientDisconnect:
        raise InvalidRequest("the client hung up before its request was complete") from None
    if not body:
        return {}
    if len(body) <= _SMALL_BYTES:
        return strict_json.loads(body, limits)
    return await asyncio.to_thread(strict_json.loads, body, limits)


def _told(row: IndexRow) -> dict[str, str]:
    told = {"name": row.name, "reason": row.reason}
    if row.version:
        told["version"] = row.version
    if row.state:
        told["state"] = row.state
    return told


def _body(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {JSON: {"schema": schema}}}}
