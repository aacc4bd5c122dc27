"""The result cache of a real server: what is kept, who says so, and what is not."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_memory import client_memory
from oip_messages import tensor
from pelton.repository import manifest
from services.redis import RedisProcess
from services.redis import redis_server as redis_server  # a fixture
from services.redis import start_redis as start_redis  # likewise
from support_server import ServerProcess, write_matmul, write_python_model

COUNTING = """
class Counting:
    def load(self, path, device):
        self.runs = 0

    def predict(self, inputs):
        self.runs += 1
        return {"runs": self.runs}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps answers: of arrays, and of one object model that says so itself."""
    folder = tmp_path_factory.mktemp("kept")
    write_matmul(folder / "arrays" / "1" / "m.onnx")
    for name, said in (("counts", ""), ("kept", "cache_objects = true\n")):
        write_python_model(folder / name / "1", COUNTING)
        (folder / name / "1" / "model.toml").write_text(said)
    with ServerProcess(folder, "--cache", "--allow-shared-memory") as server:
        yield server


def post(served: ServerProcess, path: str, said: Any, **headers: str) -> tuple[dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    sent = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.request("POST", path, json.dumps(said), sent)
    reply = connection.getresponse()
    answer = json.loads(reply.read() or "null")
    connection.close()
    assert reply.status == 200, answer
    return {name.lower(): value for name, value in reply.headers.items()}, answer


def stats(served: ServerProcess) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/stats", timeout=20) as reply:
        return json.load(reply)


ARRAYS = "/v2/models/arrays/infer"


def question(fill: float, **more: Any) -> dict[str, Any]:
    entry = tensor("x", "FP32", [1, 64]) | {"data": [fill] * 64}
    return {"inputs": [entry], **more}


def test_the_same_question_is_answered_again_by_either_endpoint(served) -> None:
    first, answer = post(served, ARRAYS, question(1.0, id="a", parameters={"pelton_key": "ann"}))
    assert first["x-pelton-cache"] == "miss"
    again, same = post(served, ARRAYS, question(1.0, id="b"), x_pelton_key="bob")
    assert again["x-pelton-cache"] == "hit"
    assert (same["id"], same["outputs"]) == ("b", answer["outputs"])
    users, said = post(served, "/infer?model=arrays", {"x": [[1.0] * 64]})
    assert (users["x-pelton-cache"], users["x-pelton-model"]) == ("hit", "arrays")
    assert users["x-pelton-version"] == "1"
    np.testing.assert_array_equal(np.ravel(said["output"]), answer["outputs"][0]["data"])
    other, _ = post(served, ARRAYS, question(2.0))
    assert other["x-pelton-cache"] == "miss"


def test_what_is_kept_is_counted(served) -> None:
    before = stats(served)["models"]["arrays"]["cache"]
    for _ in range(5):
        post(served, ARRAYS, question(9.0))
    after = stats(served)["models"]["arrays"]["cache"]
    grown = {name: after[name] - before[name] for name in ("hits", "misses", "entries")}
    assert grown == {"hits": 4, "misses": 1, "entries": 1}
    assert after["bytes"] > before["bytes"]
    assert "cache" not in stats(served)["models"]["counts"]


def test_an_object_model_is_run_each_time_unless_it_says_otherwise(served) -> None:
    runs = [post(served, "/infer?model=counts", {"a": 1}) for _ in range(2)]
    assert [said["output"] for _, said in runs] == [1, 2]
    assert not any("x-pelton-cache" in headers for headers, _ in runs)
    kept = [post(served, "/infer?model=kept", {"a": 1}) for _ in range(2)]
    assert [said["output"] for _, said in kept] == [1, 1]
    assert [headers["x-pelton-cache"] for headers, _ in kept] == ["miss", "hit"]


def test_inputs_in_the_clients_own_memory_are_computed_each_time(served) -> None:
    with client_memory(256) as memory:
        region = {"key": memory.name, "offset": 0, "byte_size": 256}
        post(served, "/v2/systemsharedmemory/region/r/register", region)
        where = {"shared_memory_region": "r", "shared_memory_byte_size": 256}
        said = {"inputs": [tensor("x", "FP32", [1, 64]) | {"parameters": where}]}
        answers = []
        for fill in (3.0, 4.0):
            memory.buf[:256] = np.full(64, fill, np.float32).tobytes()
            headers, answer = post(served, ARRAYS, said)
            assert "x-pelton-cache" not in headers
            answers.append(answer["outputs"][0]["data"])
        assert answers[0] != answers[1]
        post(served, "/v2/systemsharedmemory/region/r/unregister", {})


@pytest.mark.parametrize("same", [True, False])
def test_servers_share_what_they_computed_as_long_as_they_serve_the_same_files(
    tmp_path: Path, redis_server: RedisProcess, same: bool
) -> None:
    answers, told = [], []
    for name, outputs in (("one", 8), ("other", 8 if same else 4)):
        version = write_matmul(tmp_path / name / "arrays" / "1" / "m.onnx", outputs=outputs).parent
        manifest.write(version, manifest.measure(version))
        with ServerProcess(
            tmp_path / name, "--cache", "--cache-redis-url", redis_server.url
        ) as served:
            headers, answer = post(served, ARRAYS, question(1.0))
            told.append(headers["x-pelton-cache"])
            counts = stats(served)["cache_redis"]
            looked = (counts["hits"], counts["misses"])
            assert looked == ((1, 0) if told[-1] == "hit" else (0, 1))
            answers.append(answer["outputs"][0]["shape"])
    assert told == ["miss", "hit" if same else "miss"]
    assert answers == [[1, 8], [1, 8 if same else 4]]
