"""The Open Inference Protocol but for inference itself: health, metadata, configuration.

The protocol: kserve/open-inference-protocol, `inference_rest.md`; the `config` endpoint and
its field names follow Triton's model configuration extension, which `tritonclient` reads.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from pelton.servers.replies import JSON
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.status import ServerStatus
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire import strict_json

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "model_configuration",
    "model_repository",
]

_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


SHARED_MEMORY_EXTENSION = "system_shared_memory"


def router(status: ServerStatus, regions: SharedRegions) -> APIRouter:
    """Make the routes.

    Args:
        status: answers what is asked about the server and its models.
        regions: tells which callers may use shared memory.
    """
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    _add_health(routes, status)
    _add_server(routes, status, regions)
    _add_metadata(routes, status)
    return routes


def _add_health(routes: APIRouter, status: ServerStatus) -> None:
    @routes.get("/health/live", summary="The process answers")
    async def live() -> Response:
        return _json(200, {"live": True})

    @routes.get("/health/ready", summary="The server welcomes work")
    async def ready() -> Response:
        return _json(200 if status.ready else 503, {"ready": status.ready})

    @routes.get("/models/{model}/ready", summary="The model answers")
    @routes.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(model: str, version: str | None = None) -> Response:
        is_ready = status.model_ready(model, version)
        return _json(200 if is_ready else 503, {"name": model, "ready": is_ready})


def _add_server(routes: APIRouter, status: ServerStatus, regions: SharedRegions) -> None:
    @routes.get("", summary="Name, version and extensions of the server")
    async def server_metadata(request: Request) -> Response:
        usable = list(EXTENSIONS)
        if regions.open_to(request.state.origin) is not None:
            usable.append(SHARED_MEMORY_EXTENSION)
        return _json(200, {"name": "pelton", "version": status.version, "extensions": usable})


def _add_metadata(routes: APIRouter, status: ServerStatus) -> None:
    @routes.get("/models", summary="All served models")
    async def models() -> Response:
        return _json(200, {"models": [_row(each, status) for each in status.models()]})

    @routes.get("/models/{model}", summary="Inputs and outputs of a model")
    @routes.get("/models/{model}/versions/{version}", include_in_schema=False)
    async def model_metadata(model: str, version: str | None = None) -> Response:
        metadata = status.metadata(model, version)
        return _json(200, _metadata(metadata, status.versions(metadata.name)))

    @routes.get("/models/{model}/config", summary="Configuration of a model")
    @routes.get("/models/{model}/versions/{version}/config", include_in_schema=False)
    async def config(model: str, version: str | None = None) -> Response:
        return _json(200, _config(status.metadata(model, version)))


def _json(status: int, value: object) -> Response:
    return Response(strict_json.dumps(value), status, media_type=JSON)


def _metadata(metadata: ModelMetadata, versions: list[str]) -> dict[str, Any]:
    return {
        "name": metadata.name,
        "versions": versions,
        "platform": metadata.platform,
        "inputs": [_tensor(spec) for spec in metadata.inputs],
        "outputs": [_tensor(spec) for spec in metadata.outputs],
    }


def _row(metadata: ModelMetadata, status: ServerStatus) -> dict[str, Any]:
    state = "READY" if status.model_ready(metadata.name) else "UNAVAILABLE"
    return _metadata(metadata, status.versions(metadata.name)) | {
        "state": state,
        "device": metadata.device,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config(metadata: ModelMetadata) -> dict[str, Any]:
    """Return a model's configuration; where there are batches, dims leave out the axis of rows."""
    specs = (*metadata.inputs, *metadata.outputs)
    batched = all(spec.shape and spec.shape[0] == -1 for spec in specs) and bool(specs)
    rows = metadata.max_batch_rows if batched else 0
    return {
        "name": metadata.name,
        "platform": metadata.platform,
        "backend": metadata.platform.partition("_")[0],
        "max_batch_size": rows,
        "input": [_config_tensor(spec, rows > 0) for spec in metadata.inputs],
        "output": [_config_tensor(spec, rows > 0) for spec in metadata.outputs],
    }


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    data_type = _CONFIG_TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {"name": spec.name, "data_type": data_type, "dims": list(spec.shape[batched:])}
