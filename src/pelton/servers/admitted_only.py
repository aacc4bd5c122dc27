"""Runs the control application for requests that the gate has let in, and for those routes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelton.access.scopes import find_route
from pelton.errors import Code, InvalidRequest, NotFound, Unavailable
from pelton.servers.http_head import joined
from pelton.servers.origin import Origin
from pelton.servers.refused_counts import RefusedCounts
from pelton.servers.replies import Reply, error_reply, request_id

if TYPE_CHECKING:
    from pelton.access.redis_limit import RedisLimiter


class AdmittedOnly:
    """An ASGI application around another one.

    Two readers of one address may differ (RFC 3986, 6.2): the gate has read the head, and the
    application reads it again. What the table of routes does not know, or what is not the route
    that the gate let the request in for, is not there. Whatever answers GET answers HEAD.
    """

    def __init__(self, app: Any, shared_limit: RedisLimiter | None, refused: RefusedCounts) -> None:
        """Wrap an application.

        Args:
            app: the application.
            shared_limit: counts requests over all nodes; None where each counts by itself.
            refused: counts who is refused here, or by the application.
        """
        self._app = app
        self._shared_limit = shared_limit
        self._refused = refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._refused.note(message["status"])
            await send(message)

        origin: Origin = scope["state"]["origin"]
        refusal = _refusal(scope["method"], scope["path"], origin, scope)
        if refusal is None and self._shared_limit is not None and origin.caller.rate is not None:
            caller = origin.caller
            assert caller.rate is not None
            try:
                await self._shared_limit.take(caller.counted_as, origin.route, caller.rate)
            except Unavailable as error:
                refusal = error_reply(error, _id_of(scope))
        if refusal is None:
            # Load balancers ask by HEAD: GET without the body (RFC 9110, 9.3.2).
            await self._app({**scope, "method": _plain(scope["method"])}, receive, noted)
        else:
            await _send(refusal, noted)


def _refusal(method: str, path: str, origin: Origin, scope: Any) -> Reply | None:
    found = find_route(path)
    if found is not None and found.route == origin.route:
        return None
    if found is not None and _plain(method) not in found.methods:
        error = InvalidRequest("Method Not Allowed", Code.METHOD_NOT_ALLOWED)
        reply = error_reply(error, _id_of(scope))
        reply.headers += (("allow", ", ".join(sorted(found.methods))),)
        return reply
    return error_reply(NotFound("Not Found"), _id_of(scope))


def _plain(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _id_of(scope: Any) -> str:
    return request_id(joined(scope["headers"]).get("x-request-id"))


async def _send(reply: Reply, send: Any) -> None:
    headers = [
        ("content-type", reply.content_type),
        ("content-length", str(reply.size)),
        *reply.headers,
    ]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"".join(reply.chunks)})
