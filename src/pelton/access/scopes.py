"""What each route needs: one table, and nothing that is not in it.

A route is named by method and template. How the parts in braces are called makes no difference,
and HEAD needs what GET needs.

An application asks `find_route` before it reads a body, and what the table does not know is not
there. Two readers of one address may differ (RFC 3986, 6.2), so what it then runs has to be the
route that was found: it compares the two, and refuses where they are not the same.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import NamedTuple

from pelton.access.caller import Caller
from pelton.errors import AccessDenied
from pelton.records import Scope


class Open(enum.Enum):
    """What a route needs that needs no scope."""

    PUBLIC = "public"
    """Nothing: it tells nobody anything but that the server lives, or is ready."""

    ANY_KEY = "any key"
    """A key, whatever its scopes; where no keys are used, nothing."""


Need = Scope | Open

_INFER, _READ, _WRITE, _TRAFFIC, _ADMIN = (
    Scope.INFER,
    Scope.READ,
    Scope.MODELS_WRITE,
    Scope.TRAFFIC,
    Scope.ADMIN,
)

ROUTES: dict[tuple[str, str], Need] = {
    # Health. The two that are public tell no names and no numbers.
    ("GET", "/v2/health/live"): Open.PUBLIC,
    ("GET", "/v2/health/ready"): Open.PUBLIC,
    ("GET", "/health"): _READ,
    # Inference: what the HTTP gate answers itself, and the same by way of the application.
    ("POST", "/infer"): _INFER,
    ("POST", "/v2/models/{model}/infer"): _INFER,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): _INFER,
    # What is served.
    ("GET", "/v2"): _READ,
    ("GET", "/v2/models"): _READ,
    ("GET", "/v2/models/{model}"): _READ,
    ("GET", "/v2/models/{model}/ready"): _READ,
    ("GET", "/v2/models/{model}/config"): _READ,
    ("GET", "/v2/models/{model}/versions/{version}"): _READ,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): _READ,
    ("GET", "/v2/models/{model}/versions/{version}/config"): _READ,
    ("GET", "/stats"): _READ,
    ("GET", "/model/info"): _READ,
    # Shared memory serves inference, so whoever may infer may name it and take it back.
    ("GET", "/v2/systemsharedmemory/status"): _INFER,
    ("GET", "/v2/systemsharedmemory/region/{region}/status"): _INFER,
    ("POST", "/v2/systemsharedmemory/region/{region}/register"): _INFER,
    ("POST", "/v2/systemsharedmemory/region/{region}/unregister"): _INFER,
    ("POST", "/v2/systemsharedmemory/unregister"): _INFER,
    ("GET", "/v2/cudasharedmemory/status"): _INFER,
    ("GET", "/v2/cudasharedmemory/region/{region}/status"): _INFER,
    ("POST", "/v2/cudasharedmemory/region/{region}/register"): _INFER,
    ("POST", "/v2/cudasharedmemory/region/{region}/unregister"): _INFER,
    ("POST", "/v2/cudasharedmemory/unregister"): _INFER,
    # Which versions there are. The index is asked for by POST, and changes nothing.
    ("POST", "/v2/repository/index"): _READ,
    ("POST", "/v2/repository/models/{model}/load"): _WRITE,
    ("POST", "/v2/repository/models/{model}/unload"): _WRITE,
    ("GET", "/v2/repository/models/{model}/versions"): _READ,
    ("POST", "/v2/repository/models/{model}/versions"): _WRITE,
    ("POST", "/v2/repository/models/{model}/rollback"): _WRITE,
    ("POST", "/update_model"): _WRITE,
    # Which version answers whom.
    ("GET", "/v2/routes"): _READ,
    ("GET", "/v2/routes/{route}"): _READ,
    ("PUT", "/v2/routes/{route}"): _TRAFFIC,
    ("DELETE", "/v2/routes/{route}"): _TRAFFIC,
    ("GET", "/v2/repository/models/{model}/labels"): _READ,
    ("PUT", "/v2/repository/models/{model}/labels/{label}"): _TRAFFIC,
    ("DELETE", "/v2/repository/models/{model}/labels/{label}"): _TRAFFIC,
    # Who may do what, and who did.
    ("GET", "/v2/keys"): _ADMIN,
    ("POST", "/v2/keys"): _ADMIN,
    ("DELETE", "/v2/keys/{key}"): _ADMIN,
    ("GET", "/v2/audit"): _ADMIN,
    # The dashboard's session: begun with a key in a header, ended with its cookie.
    ("POST", "/v2/session"): Open.ANY_KEY,
    ("GET", "/v2/session"): Open.ANY_KEY,
    ("DELETE", "/v2/session"): Open.ANY_KEY,
    # The description of all this.
    ("GET", "/docs"): _READ,
    ("GET", "/docs/oauth2-redirect"): _READ,
    ("GET", "/openapi.json"): _READ,
    ("GET", "/static-offline-docs/{file}"): _READ,
}
"""(method, template of the route) -> what it needs."""

_PART = re.compile(r"\{[^{}]*\}")

_NEEDS = {(method, _PART.sub("{}", route)): need for (method, route), need in ROUTES.items()}


class Found(NamedTuple):
    """The route that an address leads to.

    Attributes:
        route: its template.
        methods: with which it may be asked.
    """

    route: str
    methods: frozenset[str]


class _Row(NamedTuple):
    pattern: re.Pattern[str]
    found: Found


def _rows() -> list[_Row]:
    """Return a row for each template, those first that leave the least open."""
    methods: dict[str, set[str]] = {}
    for method, route in ROUTES:
        methods.setdefault(route, set()).add(method)
    return [
        _Row(
            re.compile("[^/]+".join(map(re.escape, _PART.split(route)))),
            Found(route, frozenset(methods[route])),
        )
        for route in sorted(methods, key=lambda route: (route.count("{"), route))
    ]


_ROWS = _rows()


def find_route(path: str) -> Found | None:
    """Return the route that an address leads to; None if the table knows of none.

    Args:
        path: the path, decoded, without the query.
    """
    return next((row.found for row in _ROWS if row.pattern.fullmatch(path)), None)


@functools.lru_cache(maxsize=1024)
def need_of(method: str, route: str) -> Need:
    """Return what a route needs.

    Args:
        method: such as `GET`.
        route: the template of the route that was matched.

    Raises:
        AccessDenied: the table does not know the route.
    """
    need = _NEEDS.get(("GET" if method == "HEAD" else method, _PART.sub("{}", route)))
    if need is None:
        raise AccessDenied(f"{method:.20} {route:.200} is open to nobody")
    return need


def check_scope(caller: Caller, need: Need, method: str, route: str) -> None:
    """Let a caller through who may do what a route needs.

    Args:
        caller: who asks.
        need: what the route needs.
        method: for the message.
        route: likewise.

    Raises:
        AccessDenied: `FORBIDDEN`: the caller may not.
    """
    if isinstance(need, Open) or need in caller.scopes:
        return
    what = f"{method:.20} {route:.200} needs the scope `{need}`"
    if caller.key_id:
        raise AccessDenied(f"{what}, which this key does not have")
    raise AccessDenied(
        f"{what}, which nobody has without a key; make one with `pelton keys create`"
    )
