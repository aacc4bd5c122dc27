"""`GET /v2/audit`: who changed what and when, the newest first, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Response

from pelton.errors import InvalidRequest
from pelton.records import Change
from pelton.servers.replies import JSON
from pelton.wire import strict_json

MAX_ROWS = 1000
"""Of one answer."""

USUAL_ROWS = 100

NO_TRAIL = (
    "this server keeps no state, so nothing can be changed here and there is no audit trail; "
    "start it with --state-dir FOLDER, or with --database-url for several servers"
)

_LARGEST = 2**63 - 1


class NumberedChange(Protocol):
    """A change with its place in the trail."""

    @property
    def number(self) -> int:
        """Grows from change to change, with gaps."""
        ...

    @property
    def change(self) -> Change:
        """What was changed."""
        ...


class AuditTrail(Protocol):
    """Returns changes, the newest first; blocks, so it is called in a thread."""

    def __call__(  # noqa: D102 -- see the class
        self,
        limit: int,
        before: int | None,
        actor: str | None,
        action: str | None,
        subject: str | None,
    ) -> Sequence[NumberedChange]: ...


def router(trail: AuditTrail | None) -> APIRouter:
    """Make the route.

    Args:
        trail: reads the trail, such as `state.audit.list`; None where nothing is kept.
    """
    routes = APIRouter(prefix="/v2", tags=["Audit"])

    @routes.get("/audit", summary="Who changed what and when")
    async def audit(
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = USUAL_ROWS,
        before: Annotated[
            int | None, Query(ge=1, le=_LARGEST, description="Older than this number")
        ] = None,
        actor: Annotated[str | None, Query(description="Only by this key")] = None,
        action: Annotated[str | None, Query(description="Only such as `route.set`")] = None,
        subject: Annotated[
            str | None, Query(description="Only of this route, model or key")
        ] = None,
    ) -> Response:
        if trail is None:
            raise InvalidRequest(NO_TRAIL)
        rows = await asyncio.to_thread(trail, limit, before, actor, action, subject)
        following = rows[-1].number if len(rows) == limit else None
        told = {"changes": [_told(row) for row in rows], "before": following}
        return Response(strict_json.dumps(told), media_type=JSON)

    return routes


def _told(row: NumberedChange) -> dict[str, Any]:
    change = row.change
    return {
        "number": row.number,
        "at_s": change.at_s,
        "actor": change.actor,
        "action": change.action,
        "subject": change.subject,
        "before": change.before,
        "after": change.after,
    }
