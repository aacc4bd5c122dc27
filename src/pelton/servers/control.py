"""The control application: everything on the port that is not a plain inference request."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from pelton.errors import Code, InvalidRequest, PeltonError
from pelton.servers import oip_routes, shared_memory_routes, user_routes
from pelton.servers.replies import error_reply, request_id
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference, as_response
from pelton.wire.status import code_of_http

logger = logging.getLogger("pelton.control")

Routes = APIRouter
"""Routes of one subject, as the function `router` of a file `*_routes.py` makes them."""

_DESCRIPTION = """
Arrays in, answers out. Inference is `POST /v2/models/{model}/infer`
([Open Inference Protocol](https://github.com/kserve/open-inference-protocol), JSON or binary
tensors) or `POST /infer` (pickle, JSON or MessagePack).

Every error has one body: `{"error": "what was wrong", "code": "...", "request_id": "..."}`.
"""

_MODEL_HEADER = {
    "name": "X-Pelton-Model",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The same as the query `model`",
}

_TERMS = [
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "Answer 504 if it takes longer",
    },
    {
        "name": "X-Pelton-Timing",
        "in": "header",
        "schema": {"type": "string", "enum": ["1"]},
        "description": "Tell in a header of the same name where the time went",
    },
]


def control_app(
    status: ServerStatus,
    inference: UnusualInference,
    regions: SharedRegions,
    further: Iterable[Routes] = (),
) -> FastAPI:
    """Build the application.

    Who may use which of its routes is decided before: by the gate, and by `AdmittedOnly`.

    Args:
        status: answers what is asked about the server and its models.
        inference: answers inference requests that the gate does not receive itself.
        regions: shared memory of clients.
        further: routes of what not every server has, such as keys and traffic.
    """
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="Pelton",
        version=status.version,
        description=_DESCRIPTION,
        redirect_slashes=False,
    )
    app.include_router(oip_routes.router(status, regions))
    app.include_router(shared_memory_routes.router(regions))
    app.include_router(user_routes.router(status))
    for router in further:
        app.include_router(router)
    _add_inference(app, inference)
    _add_errors(app)
    _describe_errors(app)
    _work_out(app)
    return app


def _work_out(app: FastAPI) -> None:
    """Have FastAPI work its routes out now: else it does, while models answer, when first asked."""
    asked = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(asked)


def _add_inference(app: FastAPI, inference: UnusualInference) -> None:
    async def infer(request: Request) -> Response:
        return await inference.answer(request)

    app.add_api_route(
        "/v2/models/{model}/infer",
        infer,
        methods=["POST"],
        tags=["Open Inference Protocol"],
        summary="Run a model on tensors",
        openapi_extra=_oip_body() | {"parameters": [_path_parameter("model"), *_TERMS]},
    )
    app.add_api_route(
        "/v2/models/{model}/versions/{version}/infer",
        infer,
        methods=["POST"],
        include_in_schema=False,
    )
    app.add_api_route(
        "/infer",
        infer,
        methods=["POST"],
        tags=["Server"],
        summary="Run a model on a dictionary of plain values and arrays",
        openapi_extra=_user_body()
        | {"parameters": [_query_parameter("model"), _MODEL_HEADER, *_TERMS]},
    )


def _add_errors(app: FastAPI) -> None:
    """Give every failure the one error body."""

    def reply(request: Request, error: PeltonError) -> Response:
        return as_response(error_reply(error, request_id(request.headers.get("x-request-id"))))

    @app.exception_handler(PeltonError)
    async def ours(request: Request, error: PeltonError) -> Response:
        return reply(request, error)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        response = reply(
            request, InvalidRequest(str(error.detail), code_of_http(error.status_code))
        )
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return reply(request, InvalidRequest(f"{where}: {first['msg']}"))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return reply(request, PeltonError("the server failed; its log tells more", Code.INTERNAL))


def _describe_errors(app: FastAPI) -> None:
    """Have the API's description tell the one error body in the place of the framework's."""
    describe = app.openapi
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    text = {"type": "string"}

    def openapi() -> dict[str, Any]:
        schema = describe()
        schema["components"] = {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "code", "request_id"],
                    "properties": {"error": text, "code": text, "request_id": text},
                }
            },
            # So the page of the API asks for a key; where none are used, none is needed.
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        }
        schema["security"] = [{"key": []}, {}]
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {"description": "Error", "content": content}
        return schema

    setattr(app, "openapi", openapi)  # noqa: B010 -- how FastAPI wants it; a method to mypy


def _oip_body() -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string", "examples": ["FP32"]},
            "data": {"type": "array", "items": {}},
        },
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object"},
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


def _user_body() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": binary,
                "application/msgpack": binary,
            },
        }
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}}
