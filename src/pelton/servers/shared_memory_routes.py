"""Triton's shared memory extension: regions of clients are registered, listed and forgotten.

Server extension documents of Triton, `extension_shared_memory.md`; `tritonclient` calls these
paths. Memory of CUDA devices is not taken; asked for what is registered of it, the answer is
nothing, and there is nothing to forget, so that clients which tidy up before they begin go on.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from pelton.errors import InvalidRequest, NotFound
from pelton.servers.replies import JSON
from pelton.servers.shared_regions import MAX_BYTES, SharedRegions
from pelton.wire import strict_json
from pelton.wire.limits import Limits
from pelton.wire.oip_message import checked_object
from pelton.wire.oip_regions import NOT_ENABLED

_SMALL = Limits(max_json_bytes=16 * 1024)
"""A registration holds a name and two numbers."""

_REGISTRATION = {
    "type": "object",
    "required": ["key", "byte_size"],
    "properties": {
        "key": {"type": "string"},
        "offset": {"type": "integer", "default": 0},
        "byte_size": {"type": "integer"},
    },
}

_TAGS = ["Open Inference Protocol"]


def router(regions: SharedRegions) -> APIRouter:
    """Make the routes.

    Args:
        regions: the regions of this server.
    """
    routes = APIRouter(prefix="/v2", tags=list(_TAGS))
    _add_asking(routes, regions)
    _add_changing(routes, regions)
    _add_cuda(routes)
    return routes


def regions_for(request: Request, regions: SharedRegions) -> SharedRegions:
    """Return the regions for the caller of a route.

    Raises:
        InvalidRequest: it may not use any.
    """
    opened = regions.open_to(request.state.origin)
    if opened is None:
        raise InvalidRequest(NOT_ENABLED)
    return opened


def _add_asking(routes: APIRouter, regions: SharedRegions) -> None:
    @routes.get("/systemsharedmemory/status", summary="Registered regions of shared memory")
    async def status(request: Request) -> Response:
        return _json(regions_for(request, regions).status(None))

    @routes.get("/systemsharedmemory/region/{region}/status", summary="One registered region")
    async def status_of_one(request: Request, region: str) -> Response:
        return _json(regions_for(request, regions).status(region))


def _add_changing(routes: APIRouter, regions: SharedRegions) -> None:
    @routes.post(
        "/systemsharedmemory/region/{region}/register",
        summary="Register a region",
        openapi_extra={"requestBody": {"content": {JSON: {"schema": _REGISTRATION}}}},
    )
    async def register(request: Request, region: str) -> Response:
        opened = regions_for(request, regions)
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        opened.register(region, *_registration(body))
        return Response()

    @routes.post("/systemsharedmemory/unregister", summary="Forget all regions")
    async def unregister_all(request: Request) -> Response:
        regions_for(request, regions).unregister(None)
        return Response()

    @routes.post("/systemsharedmemory/region/{region}/unregister", summary="Forget a region")
    async def unregister(request: Request, region: str) -> Response:
        regions_for(request, regions).unregister(region)
        return Response()


def _add_cuda(routes: APIRouter) -> None:
    @routes.get("/cudasharedmemory/status", include_in_schema=False)
    async def status() -> Response:
        return _json([])

    @routes.get("/cudasharedmemory/region/{region}/status", include_in_schema=False)
    async def status_of_one(region: str) -> Response:
        raise NotFound(f"no CUDA shared memory region {region!r:.60} is registered")

    @routes.post("/cudasharedmemory/region/{region}/register", include_in_schema=False)
    async def register(region: str) -> Response:
        raise InvalidRequest(
            f"CUDA shared memory is not supported, so {region!r:.60} cannot be registered; "
            "use system shared memory"
        )

    @routes.post("/cudasharedmemory/unregister", include_in_schema=False)
    @routes.post("/cudasharedmemory/region/{region}/unregister", include_in_schema=False)
    async def unregister() -> Response:
        return Response()


def _registration(body: bytes) -> tuple[str, int, int]:
    """Read key, offset and size of a region from the body of its registration."""
    known = ("key", "offset", "byte_size")
    fields = checked_object(strict_json.loads(body, _SMALL), known, "the registration")
    key = fields.get("key")
    if not isinstance(key, str):
        raise InvalidRequest('the registration needs a "key": the name of the shared memory object')
    if "byte_size" not in fields:
        raise InvalidRequest('the registration needs a "byte_size"')
    numbers = [fields.get("offset", 0), fields["byte_size"]]
    for name, value in zip(("offset", "byte_size"), numbers, strict=True):
        if type(value) is not int or not 0 <= value <= MAX_BYTES:
            raise InvalidRequest(f'"{name}" must be a number of bytes, not {value!r:.40}')
    return key, numbers[0], numbers[1]


def _json(value: object) -> Response:
    return Response(strict_json.dumps(value), media_type=JSON)
