"""`/v2/session`: the dashboard sends its key once, and is known by a cookie afterwards."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from pelton.access.gate import Gate
from pelton.clock import Clock
from pelton.errors import NotFound
from pelton.servers.http_head import joined
from pelton.servers.replies import JSON
from pelton.wire import strict_json


def router(gate: Gate, clock: Clock = time.time) -> APIRouter:
    """Make the routes.

    Args:
        gate: opens sessions.
        clock: seconds since 1970.
    """
    routes = APIRouter(prefix="/v2", tags=["Access"])

    @routes.post("/session", summary="Begin a session of the dashboard, with a key in a header")
    async def begin(request: Request) -> Response:
        opened = gate.open_session(joined(request.headers.raw))
        told = {"csrf": opened.csrf, "ends_s": opened.ends_s}
        return _json(told, {"set-cookie": opened.cookie})

    @routes.get("/session", summary="Whose session it is, and the token for its changes")
    async def tell(request: Request) -> Response:
        session = gate.sessions.find(joined(request.headers.raw), clock())
        if session is None:
            raise NotFound("there is no session; POST /v2/session with a key begins one")
        caller = request.state.origin.caller
        return _json(
            {
                "csrf": session.csrf,
                "ends_s": session.ends_s,
                "key_id": session.key_id,
                "scopes": sorted(caller.scopes),
            },
            {},
        )

    @routes.delete("/session", summary="End the session")
    async def end(request: Request) -> Response:
        return _json({}, {"set-cookie": gate.sessions.close(joined(request.headers.raw))})

    return routes


def _json(value: object, headers: dict[str, str]) -> Response:
    headers = {"cache-control": "no-store", **headers}
    return Response(strict_json.dumps(value), headers=headers, media_type=JSON)
