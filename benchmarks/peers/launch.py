"""How the servers of the scenarios `small` and `startup` are started, each with the same model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import environments
from environments import HERE
from processes import free_port

SERVERS = HERE / "peers"


@dataclass(frozen=True)
class Launch:
    """What to start, and how to see that it is ready.

    Attributes:
        command: program and arguments.
        port: where it will listen.
        ready_path: answers 200 to a GET once the model can be asked; empty where the open port
            is all there is to see.
        environment: variables that it needs.
    """

    command: list[str | Path]
    port: int
    ready_path: str
    environment: dict[str, str] = field(default_factory=dict)


Start = Callable[[Path], Launch]
"""Takes the ONNX file; raises `environments.Missing` where the peer cannot be had."""


def pelton(model: Path) -> Launch:
    """Pelton as it is started by hand."""
    port = free_port()
    return Launch(
        [environments.PELTON, "serve", model, "--port", str(port)], port, "/v2/health/ready"
    )


def fastapi(model: Path, handler: str = "def") -> Launch:
    """One process of uvicorn; the handler runs in its thread pool, or on the loop (`async`)."""
    return _script("fastapi", "fastapi_onnx.py", "/openapi.json", model, handler)


def flask(model: Path) -> Launch:
    """Flask's own server, a thread for each connection, connections kept."""
    return _script("flask", "flask_pickle.py", "", model)


def websocket(model: Path) -> Launch:
    """One process of `websockets`, the model on its event loop."""
    return _script("websocket", "websocket_msgpack.py", "", model)


def litserve(model: Path) -> Launch:
    """One server process and one worker process, LitServe's smallest."""
    return _script("litserve", "litserve_onnx.py", "/health", model)


def bare_http(model: Path) -> Launch:
    """No server but its limit: a loop that answers the same bytes without looking."""
    port = free_port()
    return Launch([sys.executable, SERVERS / "bare_http.py", str(port)], port, "")


def mosec(model: Path) -> Launch:
    """Its server and one worker process."""
    port = free_port()
    return Launch(
        [
            environments.python_of("mosec"),
            SERVERS / "mosec_onnx.py",
            "--address=127.0.0.1",
            f"--port={port}",
            "--log-level=warning",
        ],
        port,
        "/",
        {"MODEL": str(model)},
    )


def bentoml(model: Path) -> Launch:
    """One worker, nothing logged for each request, nothing sent home."""
    port = free_port()
    program = environments.python_of("bentoml").with_name("bentoml")
    folder = environments.home() / "bentoml"
    return Launch(
        [program, "serve", "bentoml_onnx:Matrix", "--host=127.0.0.1", f"--port={port}", "-q"],
        port,
        "/readyz",
        {
            "MODEL": str(model),
            "PYTHONPATH": str(SERVERS),
            "BENTOML_HOME": str(folder),
            "BENTOML_DO_NOT_TRACK": "True",
        },
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
        {"PYTHONPATH": str(SERVERS)},
    )


def _script(peer: str, script: str, ready_path: str, *arguments: str | Path) -> Launch:
    port = free_port()
    command = [environments.python_of(peer), SERVERS / script, str(port), *arguments]
    return Launch(command, port, ready_path)


mlserver_0 = partial(mlserver, workers=0)
fastapi_async = partial(fastapi, handler="async")
