"""Who is asked in the scenario `small`, in which words, and how answers are read."""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import environments
from load import oip

Floats = npt.NDArray[np.float32]

MODEL = "small"
OURS = ", our generator"
LIMIT = "limit: "
PELTON = "Pelton, OIP binary"
PELTON_JSON = "Pelton, OIP JSON"
TRITON = "Triton, as installed, OIP binary"
TRITON_LEAN = "Triton, dynamic batching, no metrics, OIP binary"
MOSEC = "mosec, bare float32"
FASTAPI = "FastAPI + uvicorn, def handler, JSON"
FASTAPI_ASYNC = "FastAPI + uvicorn, async handler, JSON"
MLSERVER = "MLServer, OIP JSON"
MLSERVER_0 = "MLServer without worker, OIP JSON"
LITSERVE = "LitServe, JSON"
BENTOML = "BentoML, JSON"
FLASK = "Flask + pickle"
WEBSOCKET = "WebSocket + msgpack" + OURS
PELTON_OURS = PELTON + OURS
BARE = LIMIT + "one event loop, neither parsing nor model"
DIRECT = LIMIT + "ONNX Runtime called directly, one thread"

PACK = (
    "import sys, msgpack, msgpack_numpy, numpy; x = numpy.frombuffer(sys.stdin.buffer.read(), "
    "numpy.float32).reshape(1, 64); "
    "sys.stdout.buffer.write(msgpack.packb({'x': x}, default=msgpack_numpy.encode))"
)


@dataclass(frozen=True)
class Row:
    """One server and one way to write the same question.

    Attributes:
        name: as the table shows it.
        server: which of the peers answers.
        path: where the question goes.
        headers: what it says of itself.
        body: the question.
        framing: empty where wrk asks; else our generator does, in this protocol.
    """

    name: str
    server: str
    path: str
    headers: dict[str, str]
    body: bytes
    framing: str = ""

    def request(self) -> bytes:
        """Return the question as our generator takes it."""
        if self.framing == "websocket":
            return self.body
        return oip.http(self.path, self.headers, len(self.body)) + self.body


def questions(servers: Container[str]) -> list[Row]:
    """Return the rows of the servers that run, all with the same 64 numbers."""
    x = np.random.default_rng(0).normal(size=(1, 64)).round(4).astype(np.float32)
    asked = oip.question("x", x)
    packed, binary = asked + x.tobytes(), oip.headers(asked)
    as_json = {"Content-Type": "application/json"}
    as_bytes = {"Content-Type": "application/octet-stream"}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": x.ravel().tolist()}
    full = json.dumps({"inputs": [tensor]}).encode()
    plain = json.dumps({"x": x.tolist()}).encode()
    at = oip.path(MODEL)
    rows = [
        Row(PELTON, "pelton", at, binary, packed),
        Row(PELTON_JSON, "pelton", at, as_json, full),
        Row(TRITON, "triton", at, binary, packed),
        Row(TRITON_LEAN, "triton-lean", at, binary, packed),
        Row(MOSEC, "mosec", "/inference", as_bytes, x.tobytes()),
        Row(FASTAPI, "fastapi", "/predict", as_json, plain),
        Row(FASTAPI_ASYNC, "fastapi-async", "/predict", as_json, plain),
        Row(MLSERVER, "mlserver", at, as_json, full),
        Row(MLSERVER_0, "mlserver-0", at, as_json, full),
        Row(LITSERVE, "litserve", "/predict", as_json, plain),
        Row(BENTOML, "bentoml", "/predict", as_json, plain),
        Row(FLASK, "flask", "/infer", as_bytes, pickle.dumps({"x": x}, protocol=5)),
        Row(PELTON_OURS, "pelton", at, binary, packed, "http"),
        Row(BARE, "bare", at, binary, packed),
    ]
    if "websocket" in servers:
        rows.append(Row(WEBSOCKET, "websocket", "/", {}, _packed(x), "websocket"))
    return [row for row in rows if row.server in servers]


def _packed(x: Floats) -> bytes:
    """Return the question in msgpack, which only the peer's environment can write."""
    command: list[str | Path] = [environments.python_of("websocket"), "-c", PACK]
    return subprocess.run(command, input=x.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def numbers(row: Row, body: bytes) -> Floats:
    """Read the model's output from an answer, float32 [1, 8]."""
    if row.framing == "websocket":
        body = body.partition(b"data\xc4\x20")[2]
    if row.server == "flask":
        found = pickle.loads(body)["output"]
    elif row.headers.get("Content-Type") == "application/json":
        found = json.loads(body)
    else:
        found = np.frombuffer(body[-32:], np.float32)
    if isinstance(found, dict):
        found = found["y"] if "y" in found else found["outputs"][0]["data"]
    return np.array(found, np.float32).reshape(1, 8)
