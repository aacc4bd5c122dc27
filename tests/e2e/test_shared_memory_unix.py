"""Shared memory over the Unix socket: its own user needs no setting."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_memory import client_memory
from oip_messages import tensor
from raw_http import RawReply
from support_server import ServerProcess, matmul_weights, write_matmul


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, by the standard library."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """A server on TCP and on a Unix socket."""
    folder = tmp_path_factory.mktemp("unix")
    path = folder / "s.sock"
    with ServerProcess(write_matmul(folder / "m.onnx"), "--uds", str(path)) as server:
        yield server, path


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, said: Any = None
) -> RawReply:
    connection.request(method, path, None if said is None else json.dumps(said))
    reply = connection.getresponse()
    return RawReply(reply.status, dict(reply.headers), reply.read())


def inference() -> dict[str, Any]:
    where = {"shared_memory_region": "r", "shared_memory_byte_size": 256}
    output = where | {"shared_memory_byte_size": 32, "shared_memory_offset": 256}
    return {
        "inputs": [tensor("x", "FP32", [1, 64]) | {"parameters": where}],
        "outputs": [{"name": "y", "parameters": output}],
    }


def test_the_own_user_may_over_the_unix_socket_and_nobody_over_tcp(both: Any) -> None:
    server, path = both
    unix = UnixConnection(path)
    tcp = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    row = np.arange(64, dtype="<f4").reshape(1, 64)
    with client_memory(4096) as memory:
        memory.buf[:256] = row.tobytes()
        said = {"key": memory.name, "byte_size": 4096}
        refused = ask(tcp, "POST", "/v2/systemsharedmemory/region/r/register", said)
        assert (refused.status, refused.json()["code"]) == (400, "invalid_input")
        assert ask(unix, "POST", "/v2/systemsharedmemory/region/r/register", said).status == 200
        for connection, usable in ((unix, True), (tcp, False)):
            extensions = ask(connection, "GET", "/v2").json()["extensions"]
            assert ("system_shared_memory" in extensions) is usable
            reply = ask(connection, "POST", "/v2/models/m/infer", inference())
            assert reply.status == (200 if usable else 400), reply.body
            assert ("--allow-shared-memory" in reply.body.decode()) is not usable
        written = np.frombuffer(bytes(memory.buf[256:288]), "<f4").reshape(1, 8)
        np.testing.assert_array_equal(written, row @ matmul_weights(), strict=True)
        told = ask(unix, "GET", "/v2/systemsharedmemory/status").json()
        assert [each["name"] for each in told] == ["r"]
        assert ask(tcp, "GET", "/v2/systemsharedmemory/status").status == 400
        assert ask(unix, "POST", "/v2/systemsharedmemory/unregister").status == 200
        assert ask(unix, "POST", "/v2/models/m/infer", inference()).status == 400
    unix.close()
    tcp.close()
