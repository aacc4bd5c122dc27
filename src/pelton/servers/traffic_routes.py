"""`/v2/routes` and the labels of versions: who is answered by which version, told and changed.

A route's revision is its `ETag`. A change may name in `If-Match` the revision that it is based on,
and is refused with 409 if the route has another one by then (RFC 9110, 13.1.1; its 412 would be a
second status for one and the same conflict). `If-None-Match: *` makes a route and replaces none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from pelton.errors import InvalidRequest
from pelton.records import NEW
from pelton.servers.replies import JSON
from pelton.servers.small_bodies import small_json
from pelton.servers.traffic_control import RouteRow, TrafficControl
from pelton.wire import strict_json
from pelton.wire.oip_message import checked_object

_REVISION = re.compile(r'"?([0-9]{1,18})"?')

_TAGS = ["Traffic"]

_POLICY: dict[str, Any] = {
    "type": "object",
    "required": ["policy"],
    "properties": {
        "policy": {"type": "string", "enum": ["latest", "pinned", "split"]},
        "model": {"type": "string", "description": "the name of the route, if left out"},
        "version": {"description": "of a pinned route: a number or a label"},
        "arms": {
            "type": "array",
            "description": "of a split; the first is the main one",
            "items": {
                "type": "object",
                "required": ["version", "weight"],
                "properties": {"version": {}, "weight": {"type": "number", "minimum": 0}},
            },
        },
        "enrolled": {"type": "number", "minimum": 0, "maximum": 1},
        "salt": {"type": "string"},
        "sticky": {"type": ["string", "null"]},
        "shadow": {
            "type": ["object", "null"],
            "properties": {"version": {}, "share": {"type": "number"}},
        },
    },
}

_VERSION = {
    "type": "object",
    "required": ["version"],
    "properties": {"version": {"type": "integer", "minimum": 1}},
}


def router(traffic: TrafficControl) -> APIRouter:
    """Make the routes.

    Args:
        traffic: keeps routes and labels.
    """
    routes = APIRouter(prefix="/v2", tags=list(_TAGS))
    _add_asking(routes, traffic)
    _add_changing(routes, traffic)
    _add_labels(routes, traffic)
    return routes


def _add_asking(routes: APIRouter, traffic: TrafficControl) -> None:
    @routes.get("/routes", summary="All routes that are set")
    async def every() -> Response:
        return _json({"routes": [_told(row) for row in traffic.routes()]})

    @routes.get("/routes/{route}", summary="One route")
    async def one(route: str) -> Response:
        return _tagged(traffic.route(route))


def _add_changing(routes: APIRouter, traffic: TrafficControl) -> None:
    @routes.put(
        "/routes/{route}",
        summary="Set a route",
        openapi_extra=_body(_POLICY) | {"parameters": [_condition("If-Match")]},
    )
    async def put(request: Request, route: str) -> Response:
        policy, actor = await small_json(request), _actor(request)
        return _tagged(await traffic.set_route(route, policy, _expected(request), actor))

    @routes.delete(
        "/routes/{route}",
        summary="Delete a route",
        openapi_extra={"parameters": [_condition("If-Match")]},
    )
    async def delete(request: Request, route: str) -> Response:
        row = await traffic.delete_route(route, _expected(request), _actor(request))
        return _json(_told(row))


def _add_labels(routes: APIRouter, traffic: TrafficControl) -> None:
    path = "/repository/models/{model}/labels"

    @routes.get(path, summary="The labels of a model's versions")
    async def every(model: str) -> Response:
        return _labels(traffic, model)

    @routes.put(f"{path}/{{label}}", summary="Set a label", openapi_extra=_body(_VERSION))
    async def put(request: Request, model: str, label: str) -> Response:
        body = checked_object(await small_json(request), ("version",), "the label")
        if "version" not in body:
            raise InvalidRequest('the label needs a "version", such as {"version": 3}')
        await traffic.set_label(model, label, body["version"], _actor(request))
        return _labels(traffic, model)

    @routes.delete(f"{path}/{{label}}", summary="Delete a label")
    async def delete(request: Request, model: str, label: str) -> Response:
        await traffic.delete_label(model, label, _actor(request))
        return _labels(traffic, model)


def _expected(request: Request) -> int | None:
    """Read which revision a change is based on; None for any.

    Raises:
        InvalidRequest: the condition is none that can be held.
    """
    fresh = request.headers.get("if-none-match")
    if fresh is not None and fresh.strip() != "*":
        raise InvalidRequest("If-None-Match can only be *, which makes a route and replaces none")
    match = request.headers.get("if-match")
    if match is None:
        return None if fresh is None else NEW
    found = _REVISION.fullmatch(match.strip())
    if found is None or fresh is not None or not int(found[1]):
        raise InvalidRequest(
            f"If-Match is {match!r:.60}; it must be the revision of the route, as the header ETag "
            "of an answer tells it, and stand alone"
        )
    return int(found[1])


def _actor(request: Request) -> str:
    """Return the id of the key that a change is made with; empty where no keys are used."""
    return str(request.state.origin.caller.key_id)


def _told(row: RouteRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "revision": row.revision,
        "policy": row.policy,
        "problem": row.problem or None,
    }


def _tagged(row: RouteRow) -> Response:
    return _json(_told(row), {"ETag": f'"{row.revision}"'})


def _labels(traffic: TrafficControl, model: str) -> Response:
    return _json({"model": model, "labels": traffic.labels(model)})


def _json(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(strict_json.dumps(value), headers=dict(headers or {}), media_type=JSON)


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _condition(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "schema": {"type": "string"},
        "description": "Only if the route has this revision, as ETag tells it",
    }
