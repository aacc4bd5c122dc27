"""`/v2/keys`: keys listed, made and revoked by those whose own key has the scope `admin`."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from pelton.errors import InvalidRequest
from pelton.records import Key
from pelton.servers.key_control import KeyControl, KeyWish, as_plain, scopes_of, state_of
from pelton.servers.replies import JSON
from pelton.servers.small_bodies import small_json
from pelton.wire import strict_json
from pelton.wire.oip_message import checked_object

_WISH = {
    "type": "object",
    "required": ["label", "scopes"],
    "properties": {
        "label": {"type": "string"},
        "scopes": {"type": "array", "items": {"type": "string"}},
        "expires_s": {"type": "number", "description": "seconds since 1970; never, if left out"},
        "requests_per_s": {"type": "number", "description": "to each route"},
        "burst": {"type": "integer", "description": "how many of them may come at once"},
    },
}


def router(keys: KeyControl) -> APIRouter:
    """Make the routes.

    Args:
        keys: lists and changes the keys.
    """
    routes = APIRouter(prefix="/v2", tags=["Access"])

    @routes.get("/keys", summary="All keys that were ever made, without their secrets")
    async def every() -> Response:
        return _json({"keys": [_told(key) for key in await keys.list()]})

    @routes.post(
        "/keys",
        summary="Make a key; its secret is told in the answer and never again",
        openapi_extra={"requestBody": {"content": {JSON: {"schema": _WISH}}}},
    )
    async def create(request: Request) -> Response:
        caller = request.state.origin.caller
        wish = _wish(await small_json(request))
        new = await keys.create(wish, caller.key_id, caller.scopes)
        return _json({"key": new.text, **_told(new.key)})

    @routes.delete("/keys/{key}", summary="Revoke a key for good")
    async def revoke(request: Request, key: str) -> Response:
        return _json(_told(await keys.revoke(key, request.state.origin.caller.key_id)))

    return routes


def _wish(body: Any) -> KeyWish:
    fields = checked_object(body, tuple(_WISH["properties"]), "the key")
    label, scopes, burst = fields.get("label"), fields.get("scopes"), fields.get("burst")
    if not isinstance(label, str):
        raise InvalidRequest('the key needs a "label"')
    if not isinstance(scopes, list) or not all(isinstance(each, str) for each in scopes):
        raise InvalidRequest('the key needs "scopes": a list of names')
    if burst is not None and type(burst) is not int:
        raise InvalidRequest('"burst" has to be a whole number')
    return KeyWish(
        label,
        scopes_of(scopes),
        _number(fields, "expires_s"),
        _number(fields, "requests_per_s"),
        burst,
    )


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is not None and type(value) not in (int, float):
        raise InvalidRequest(f'"{name}" has to be a number')
    return None if value is None else float(value)


def _told(key: Key) -> dict[str, Any]:
    return {**as_plain(key), "state": state_of(key, time.time())}


def _json(value: object) -> Response:
    return Response(
        strict_json.dumps(value), headers={"cache-control": "no-store"}, media_type=JSON
    )
