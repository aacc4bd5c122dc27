"""The users' own endpoints besides `/infer`: `/health`, `/stats`, `/model/info`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Header, Query, Response

from pelton.servers.model_choice import chosen_model
from pelton.servers.replies import JSON
from pelton.servers.status import ServerStatus
from pelton.specs import ModelMetadata
from pelton.wire import strict_json

BYTES_PER_MB = 1024 * 1024


def router(status: ServerStatus) -> APIRouter:
    """Make the routes.

    Args:
        status: answers what is asked about the server and its models.
    """
    routes = APIRouter(tags=["Server"])

    @routes.get("/health", summary="Whether the server is well, and what it serves")
    async def health() -> Response:
        return _json(200 if status.ready else 503, _health(status))

    @routes.get("/stats", summary="Requests since the start, of all models or of one")
    async def stats(model: str | None = Query(None, description="Only this model")) -> Response:
        if model is not None:
            status.metadata(model)
        return _json(200, status.statistics(model))

    @routes.get("/model/info", summary="Type, device, size and parameters of a model")
    async def model_info(
        model: str | None = Query(None, description="Needed where several models are served"),
        x_pelton_model: str | None = Header(None, include_in_schema=False),
    ) -> Response:
        name = chosen_model(model or x_pelton_model, status.default_model, status.engine.names())
        return _json(200, _info(status.metadata(name)))

    return routes


def _json(code: int, value: object) -> Response:
    return Response(strict_json.dumps(value), code, media_type=JSON)


def _health(status: ServerStatus) -> dict[str, Any]:
    state = {} if status.writable is None else {"state": {"writable": status.writable()}}
    return {
        "status": "healthy" if status.ready else "unavailable",
        "ready": status.ready,
        "version": status.version,
        "uptime_seconds": status.statistics(None)["uptime_seconds"],
        "models": [
            {"name": model.name, "version": model.version, "device": model.device}
            for model in status.models()
        ],
    } | state


def _info(metadata: ModelMetadata) -> dict[str, Any]:
    return {
        "name": metadata.name,
        "version": metadata.version,
        "model_type": metadata.model_type,
        "platform": metadata.platform,
        "device": metadata.device,
        "total_parameters": metadata.parameters,
        "trainable_parameters": metadata.trainable_parameters,
        "model_size_mb": round(metadata.size_bytes / BYTES_PER_MB, 3),
        "inputs": [spec.name for spec in metadata.inputs],
        "outputs": [spec.name for spec in metadata.outputs],
    }
