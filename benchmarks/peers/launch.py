"""How the servers of the scenarios `small` and `startup` are started, each with the same model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import environments
from environments import HERE
from processes import free_port


@dataclass(frozen=True)
class Launch:
    """What to start, and how to see that it is ready.

    Attributes:
        command: program and arguments.
        port: where it will listen.
        ready_path: answers 200 to a GET once the model can be asked.
        environment: variables that it needs.
    """

    command: list[str | Path]
    port: int
    ready_path: str
    environment: dict[str, str] = field(default_factory=dict)


def pelton(model: Path) -> Launch:
    """Pelton as it is started by hand."""
    port = free_port()
    return Launch(
        [environments.PELTON, "serve", model, "--port", str(port)], port, "/v2/health/ready"
    )


def fastapi(model: Path, handler: str = "def") -> Launch:
    """One process of uvicorn; the handler runs in its thread pool, or on the loop (`async`)."""
    port = free_port()
    server = HERE / "peers" / "fastapi_onnx.py"
    return Launch(
        [environments.python_of("fastapi"), server, str(port), model, handler],
        port,
        "/openapi.json",
    )


def mlserver(model: Path, workers: int = 1) -> Launch:
    """MLServer, nothing logged for each request.

    Args:
        model: the ONNX file.
        workers: processes that run the model; MLServer's default is 1, and with 0 the process
            that receives the request runs it.
    """
    port = free_port()
    folder = environments.home() / f"mlserver-{workers}"
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": workers,
        "debug": False,
    }
    model_settings = {
        "name": "small",
        "implementation": "mlserver_onnx.OnnxModel",
        "parameters": {"uri": str(model)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model_settings))
    program = environments.python_of("mlserver").with_name("mlserver")
    return Launch(
        [program, "start", folder],
        port,
        "/v2/health/ready",
        {"PYTHONPATH": str(HERE / "peers")},
    )


PEERS = {
    "pelton": pelton,
    "fastapi": fastapi,
    "fastapi-async": partial(fastapi, handler="async"),
    "mlserver": mlserver,
    "mlserver-0": partial(mlserver, workers=0),
}
