"""The users' own endpoints: `/infer` in three formats, `/health`, `/stats`, `/model/info`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

import pelton
from raw_http import RawReply, Wire, get, plain
from support_server import ServerProcess, matmul_weights, write_identity, write_matmul

DUMPS: dict[str, Callable[[Any], bytes]] = {
    "application/json": lambda value: json.dumps(value, default=np.ndarray.tolist).encode(),
    "application/octet-stream": lambda value: pickle.dumps(value, 5),
    "application/msgpack": lambda value: bytes(msgpack.packb(value, default=msgpack_numpy.encode)),
}
LOADS: dict[str, Callable[[bytes], Any]] = {
    "application/json": json.loads,
    "application/octet-stream": pickle.loads,
    "application/msgpack": lambda body: msgpack.unpackb(body, object_hook=msgpack_numpy.decode),
}
FORMATS = tuple(DUMPS)

OBSERVATION = {
    "instruction": "pick up the red cube",
    "state": np.linspace(-1, 1, 6, dtype="f4"),
    "image": np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8),
}
"""What the users' robots send."""


def ask(server: ServerProcess, request: bytes) -> RawReply:
    with Wire(server.port) as wire:
        return wire.ask(request)


def infer(
    server: ServerProcess, media_type: str, value: Any, query: str = "", **headers: str
) -> RawReply:
    told = {"Content-Type": media_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return ask(server, plain(f"/infer{query}", DUMPS[media_type](value), told))


# -- /infer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/msgpack"])
def test_a_robot_gets_an_action(served: ServerProcess, media_type: str) -> None:
    reply = infer(served, media_type, OBSERVATION, "?model=policy")
    assert reply.status == 200
    assert reply.headers["content-type"] == media_type
    said = LOADS[media_type](reply.body)
    assert list(said) == ["status", "output"]
    assert said["status"] == "ok"
    assert (said["output"].dtype, said["output"].shape) == (np.float32, (16, 6))
    assert reply.body == infer(served, media_type, OBSERVATION, "?model=policy").body


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_tensor_model_takes_a_dict_by_name_and_the_bare_array(
    served: ServerProcess, media_type: str
) -> None:
    x = np.arange(64, dtype="f4").reshape(1, 64)
    wanted = (x @ matmul_weights()).tolist()
    for value in (x, {"x": x}, x.tolist(), {"x": x.tolist()}, x.astype("f8"), x.astype("u1")):
        reply = infer(served, media_type, value, "?model=matmul")
        assert reply.status == 200, reply
        said = LOADS[media_type](reply.body)
        assert said["status"] == "ok"
        assert np.asarray(said["output"]).tolist() == wanted


@pytest.mark.parametrize("media_type", FORMATS)
def test_several_outputs_are_a_dict(served: ServerProcess, media_type: str) -> None:
    value = {"x1": [1.0, 2.0], "x0": [3.0]}
    said = LOADS[media_type](infer(served, media_type, value, "?model=pair").body)
    assert list(said["output"]) == ["y0", "y1"]
    assert np.asarray(said["output"]["y1"]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("media_type", FORMATS)
def test_plain_values_come_back_as_they_went(served: ServerProcess, media_type: str) -> None:
    value = {"value": [1, 2.5, None, True, "grüß dich 你好", {"a": [], "b": {}}, -(2**62)]}
    said = LOADS[media_type](infer(served, media_type, value, "?model=plain").body)
    assert said == {"status": "ok", "output": value["value"]}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol(served: ServerProcess, protocol: int) -> None:
    array = np.arange(12, dtype="f8").reshape(3, 4).T
    body = pickle.dumps({"value": array}, protocol)
    kind = {"Content-Type": "application/octet-stream"}
    reply = ask(served, plain("/infer?model=plain", body, kind))
    said = pickle.loads(reply.body)
    assert said["output"].dtype == array.dtype
    assert np.array_equal(said["output"], array)
    assert reply.body[1] <= protocol, "an old client can read the answer"


def test_other_names_of_msgpack(served: ServerProcess) -> None:
    for name in ("application/x-msgpack", "application/vnd.msgpack"):
        body = msgpack.packb({"value": 1})
        reply = ask(served, plain("/infer?model=plain", body, {"Content-Type": name}))
        assert msgpack.unpackb(reply.body) == {"status": "ok", "output": 1}


def test_floats_without_a_number_have_names_in_json(served: ServerProcess) -> None:
    body = b'{"x": ["NaN", "Infinity", "-Infinity", 1]}'
    reply = ask(served, plain("/infer?model=echo_fp32", body, {"Content-Type": "application/json"}))
    assert reply.json()["output"] == ["NaN", "Infinity", "-Infinity", 1.0]


# -- which model -----------------------------------------------------------------------------------


def test_the_model_is_named_by_query_or_header(served: ServerProcess) -> None:
    kind = "application/json"
    assert infer(served, kind, {"value": 1}, "?model=plain").json()["output"] == 1
    assert infer(served, kind, {"value": 1}, X_Pelton_Model="plain").json()["output"] == 1
    # The query is the louder of the two.
    reply = infer(served, kind, {"value": 1}, "?model=plain", X_Pelton_Model="nobody")
    assert reply.json()["output"] == 1


@pytest.mark.parametrize("media_type", FORMATS)
def test_without_a_name_the_served_ones_are_listed(served: ServerProcess, media_type: str) -> None:
    reply = infer(served, media_type, {"value": 1})
    assert reply.status == 400
    said = LOADS[media_type](reply.body)
    assert list(said) == ["status", "message", "error", "code", "request_id"]
    assert said["status"] == "error"
    assert said["message"] == said["error"]
    for name in ("?model=NAME", "X-Pelton-Model", "digits", "echo_fp32", "matmul"):
        assert name in said["message"]


def test_a_default_model_answers_for_the_nameless(tmp_path: Path, serve) -> None:
    write_matmul(tmp_path / "matmul/1/model.onnx")
    write_identity(tmp_path / "echo/1/model.onnx")
    server = serve(tmp_path, "--default-model=echo")
    kind = "application/json"
    assert infer(server, kind, [1, 2]).json()["output"] == [1, 2]
    assert infer(server, kind, [1, 2], "?model=").json()["output"] == [1, 2]
    assert infer(server, kind, [[1] * 64], "?model=matmul").status == 200
    assert ask(server, get("/model/info")).json()["name"] == "echo"


def test_the_only_model_needs_no_name(tmp_path: Path, serve) -> None:
    server = serve(write_identity(tmp_path / "only.onnx"))
    assert infer(server, "application/json", {"x": [1, 2]}).json()["output"] == [1, 2]
    assert infer(server, "application/json", [1], "?model=other").status == 404
    assert ask(server, get("/model/info")).json()["name"] == "only"


# -- /health, /stats, /model/info ------------------------------------------------------------------


def test_health(served: ServerProcess) -> None:
    reply = ask(served, get("/health"))
    assert reply.status == 200
    told = reply.json()
    assert (told["status"], told["ready"], told["version"]) == ("healthy", True, pelton.__version__)
    assert told["uptime_seconds"] > 0
    assert {"name": "matmul", "version": "1", "device": "cpu"} in told["models"]


STATISTICS = [
    "total_requests",
    "successful_requests",
    "failed_requests",
    "total_inference_time",
    "avg_inference_time",
    "uptime_seconds",
    "requests_per_second",
    "success_rate",
]


MEMORY = ["buffered_bytes", "max_buffered_bytes", "waiting_for_memory"]
INSIDE = ["queue", "batches", "instances", "restarts", "worker_bytes"]


def test_statistics_count_what_happened(tmp_path: Path, serve) -> None:
    write_matmul(tmp_path / "matmul/1/model.onnx")
    write_identity(tmp_path / "echo/1/model.onnx")
    server = serve(tmp_path)
    before = ask(server, get("/stats")).json()
    assert list(before) == [*STATISTICS, *MEMORY, "refused_requests", "models"]
    assert before["total_requests"] == 0
    assert list(before["models"]) == ["echo", "matmul"]
    kind = "application/json"
    for _ in range(3):
        assert infer(server, kind, [1, 2], "?model=echo").status == 200
    assert infer(server, kind, [[1]], "?model=echo").status == 400  # the engine's refusal
    assert infer(server, kind, {"z": [1]}, "?model=echo").status == 400  # the decoder's
    assert infer(server, kind, [[1]], "?model=matmul").status == 400
    assert ask(server, plain("/v2/models/matmul/infer", b"{")).status == 400
    told = ask(server, get("/stats")).json()
    assert (told["total_requests"], told["successful_requests"]) == (7, 3)
    assert told["failed_requests"] == 4
    assert told["success_rate"] == 3 / 7
    assert told["total_inference_time"] > 0
    assert told["avg_inference_time"] == told["total_inference_time"] / 3
    assert told["requests_per_second"] > 0
    echo = ask(server, get("/stats?model=echo")).json()
    assert list(echo) == [*STATISTICS, *INSIDE]
    assert echo["batches"]["runs"] == 3
    assert echo["queue"]["requests"] == 0
    assert (echo["total_requests"], echo["failed_requests"]) == (5, 2)
    assert told["models"]["matmul"]["failed_requests"] == 2
    assert ask(server, get("/stats?model=nobody")).status == 404


def test_information_about_a_model(served: ServerProcess) -> None:
    told = ask(served, get("/model/info?model=matmul")).json()
    assert {
        "model_type",
        "device",
        "total_parameters",
        "trainable_parameters",
        "model_size_mb",
    } <= set(told)
    assert (told["name"], told["version"], told["device"]) == ("matmul", "1", "cpu")
    assert told["total_parameters"] == 64 * 8
    assert (told["inputs"], told["outputs"]) == (["x"], ["y"])
    assert told["model_size_mb"] > 0
    with Wire(served.port) as wire:
        reply = wire.ask(get("/model/info", {"X-Pelton-Model": "digits"}))
        assert reply.json()["name"] == "digits"
    reply = ask(served, get("/model/info"))
    assert reply.status == 400
    assert "?model=NAME" in reply.json()["error"]
    assert ask(served, get("/model/info?model=nobody")).status == 404
