"""Clients that ask all the time, and somebody who publishes meanwhile."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

from e2e.versions import COLUMNS

OK = 200
_GATE = re.compile(r"refused at the gate '(\w+)'")
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Seen:
    """One request, and what came of it.

    Attributes:
        status: 0 where no answer came.
        version: the version that the answer names, once its values have proven it; 0 for none.
        said: what else the server said.
    """

    status: int
    version: int
    said: str


@dataclass
class Asking:
    """What clients of one model have seen.

    Attributes:
        seen: in the order in which the answers came.
    """

    seen: list[Seen] = field(default_factory=list)
    _more: threading.Condition = field(default_factory=threading.Condition)

    def add(self, seen: Seen) -> None:
        with self._more:
            self.seen.append(seen)
            self._more.notify_all()

    def wait_for(self, requests: int) -> None:
        """Return when so many more requests have been answered."""
        with self._more:
            wanted = len(self.seen) + requests
            assert self._more.wait_for(lambda: len(self.seen) >= wanted, TIMEOUT_S)

    def versions(self) -> set[int]:
        return {one.version for one in self.seen if one.status == OK}

    def failed(self) -> list[Seen]:
        return [one for one in self.seen if one.status != OK]


@contextmanager
def asking(port: int, model: str, clients: int = 3) -> Iterator[Asking]:
    """Have clients ask a model, each again as soon as it has its answer, until this is left."""
    told, ended = Asking(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            try:
                while not ended.is_set():
                    told.add(ask_once(connection, model))
            except (OSError, HTTPException) as error:
                if not ended.is_set():
                    told.add(Seen(0, 0, repr(error)))
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for one in threads:
        one.start()
    try:
        yield told
    finally:
        ended.set()
        for one in threads:
            one.join()


def ask_once(connection: HTTPConnection, model: str) -> Seen:
    """Ask for ones, and check that the values of the answer are of the version that it names."""
    data = [1.0] * COLUMNS
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": data}
    body = json.dumps({"inputs": [tensor]})
    connection.request("POST", f"/v2/models/{model}/infer", body)
    reply = connection.getresponse()
    text = reply.read().decode()
    if reply.status != OK:
        return Seen(reply.status, 0, text)
    answer = json.loads(text)
    version = int(answer["model_version"])
    (output,) = answer["outputs"]
    is_its_own = output["data"] == [1.0 + version] * COLUMNS
    return Seen(reply.status, version if is_its_own else -1, "" if is_its_own else text)


def publish(port: int, model: str, version: int, file_name: str, data: bytes) -> str:
    """Publish a version; return the gate that refused it, or `in service`."""
    headers = {
        "X-Pelton-Digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "X-Pelton-File": file_name,
    }
    path = f"/v2/repository/models/{model}/versions?version={version}"
    status, reply = told(port, "POST", path, data, headers)
    if status == OK:
        assert reply["version"] == version
        return "in service"
    gate = _GATE.search(reply["error"])
    assert gate, (status, reply)
    return gate[1]


def versions_of(port: int, model: str) -> dict[int, dict[str, Any]]:
    """Return what the server knows of the versions of a model."""
    status, reply = told(port, "GET", f"/v2/repository/models/{model}/versions")
    assert status == OK, reply
    return {int(row["version"]): row for row in reply["versions"]}


def told(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Ask the server anything; return the status and the JSON."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()
