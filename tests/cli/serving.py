"""Requests to a server under test, one connection each."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any, NamedTuple

from support_server import ServerProcess


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: Any


def ask(
    server: ServerProcess, path: str, body: Any = None, method: str | None = None, **headers: str
) -> Answer:
    """Send one request over a new connection; a body is sent, and the answer read, as JSON."""
    host = server.url.removeprefix("http://").rpartition(":")[0].strip("[]")
    connection = http.client.HTTPConnection(host, server.port, timeout=20)
    with contextlib.closing(connection):
        raw = None if body is None else json.dumps(body)
        told = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method or ("GET" if body is None else "POST"), path, raw, told | headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, json.loads(response.read()))


def numbers(*values: float) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP32", "data": list(values)}]
    }
