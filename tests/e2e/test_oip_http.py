"""The Open Inference Protocol by plain HTTP: what the clients' libraries never send or look at."""

from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Iterator, Mapping
from gzip import decompress
from pathlib import Path

import numpy as np
import pytest

import pelton
from oip_messages import binary_body, binary_tensor, json_body, read_reply, tensor
from raw_http import RawReply
from support_server import ServerProcess, WaitingModel, matmul_weights, until, write_matmul


class Caller:
    """One connection of the standard library's client."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __call__(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> RawReply:
        self._connection.request(method, path, body, dict(headers or {}))
        reply = self._connection.getresponse()
        found = {name.lower(): value for name, value in reply.getheaders()}
        return RawReply(reply.status, found, reply.read())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def call(served: ServerProcess) -> Iterator[Caller]:
    caller = Caller(served.port)
    yield caller
    caller.close()


def post(
    call: Caller, model: str, body: bytes, headers: Mapping[str, str] | None = None
) -> RawReply:
    return call("POST", f"/v2/models/{model}/infer", body, headers)


# -- health and metadata -----------------------------------------------------------------------------


def test_health_has_the_bodies_of_the_protocol(call: Caller) -> None:
    for path, body in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/matmul/ready", {"name": "matmul", "ready": True}),
        ("/v2/models/matmul/versions/1/ready", {"name": "matmul", "ready": True}),
    ):
        reply = call("GET", path)
        assert (reply.status, reply.json()) == (200, body)
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/v2/models/matmul/ready", "/v2", "/stats"]
)
def test_what_answers_get_answers_head_without_a_body(call: Caller, path: str) -> None:
    got, asked = call("GET", path), call("HEAD", path)
    assert (asked.status, asked.body) == (got.status, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert call("HEAD", "/v2/models/nobody/ready").status == 404
    assert call("HEAD", "/v2/models/matmul/infer").status == 405
    assert call("GET", path).status == 200  # on the same connection, which is still in step


def test_metadata_of_server_and_models(call: Caller) -> None:
    told = call("GET", "/v2").json()
    assert list(told) == ["name", "version", "extensions"]
    assert told["version"] == pelton.__version__
    for path in ("/v2/models/pair", "/v2/models/pair/versions/1"):
        assert call("GET", path).json() == {
            "name": "pair",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": f"x{i}", "datatype": "FP32", "shape": [-1]} for i in range(2)],
            "outputs": [{"name": f"y{i}", "datatype": "FP32", "shape": [-1]} for i in range(2)],
        }
    assert call("GET", "/v2/models/pair/versions/1/config").json()["name"] == "pair"


def test_the_list_of_models(call: Caller) -> None:
    listed = call("GET", "/v2/models").json()["models"]
    names = [row["name"] for row in listed]
    assert names == sorted(names)
    assert {"digits", "matmul", "policy", "echo_bytes"} <= set(names)
    assert {row["state"] for row in listed} == {"READY"}


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nobody",
        "/v2/models/nobody/ready",
        "/v2/models/nobody/config",
        "/v2/models/matmul/versions/2",
        "/v2/models/matmul/versions/2/ready",
        "/v2/models/matmul/versions/one/config",
        "/v2/models/matmul/stats",
        "/v2/nothing",
    ],
)
def test_what_is_not_there(call: Caller, path: str) -> None:
    reply = call("GET", path)
    assert reply.status == 404
    assert list(reply.json()) == ["error", "code", "request_id"]
    assert reply.json()["code"] == "not_found"


# -- inference ---------------------------------------------------------------------------------------

X = np.arange(64, dtype="<f4").reshape(1, 64)
Y = (X @ matmul_weights()).ravel().tolist()


def test_a_version_in_the_path(call: Caller) -> None:
    body = json_body(tensor("x", "FP32", [1, 64], X.ravel().tolist()))
    reply = call("POST", "/v2/models/matmul/versions/1/infer", body)
    assert reply.json()["model_version"] == "1"
    assert read_reply(reply)["y"]["data"] == Y
    assert call("POST", "/v2/models/matmul/versions/2/infer", body).status == 404


def test_the_whole_answer(call: Caller) -> None:
    body = json_body(tensor("x", "FP32", [1, 64], X.tolist()), id="seven")
    reply = post(call, "matmul", body)
    assert reply.json() == {
        "model_name": "matmul",
        "model_version": "1",
        "id": "seven",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 8], "data": Y}],
    }
    assert reply.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in reply.headers


def test_flat_and_nested_data_mean_the_same(call: Caller) -> None:
    flat = post(call, "rows", json_body(tensor("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])))
    nested = post(call, "rows", json_body(tensor("x", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]])))
    assert flat.body == nested.body
    assert read_reply(flat)["y"]["data"] == [1, 2, 3, 4, 5, 6]


def test_binary_out_of_json_in(call: Caller) -> None:
    body = json_body(
        tensor("x", "FP32", [1, 64], X.ravel().tolist()),
        outputs=[{"name": "y", "parameters": {"binary_data": True}}],
    )
    reply = post(call, "matmul", body)
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers["inference-header-content-length"])
    assert json.loads(reply.body[:length])["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 8], "parameters": {"binary_data_size": 32}}
    ]
    assert np.frombuffer(reply.body[length:], "<f4").tolist() == Y


def test_one_output_may_differ_from_the_rest(call: Caller) -> None:
    inputs = [tensor(f"x{i}", "FP32", [1], [i]) for i in range(2)]
    body = json_body(
        *inputs,
        outputs=[{"name": "y0"}, {"name": "y1", "parameters": {"binary_data": False}}],
        parameters={"binary_data_output": True},
    )
    outputs = read_reply(post(call, "pair", body))
    assert outputs["y0"]["data"] == np.float32(0).tobytes()
    assert outputs["y1"]["data"] == [1.0]


@pytest.mark.parametrize(
    "model", ["echo_fp32", "echo_bool", "echo_fp16", "echo_bf16", "echo_int64"]
)
def test_a_raw_request(call: Caller, model: str) -> None:
    """Header length 0: the body is the only input, and every output comes as binary data."""
    data = bytes([1, 0] * 8)
    reply = post(call, model, data, {"Inference-Header-Content-Length": "0"})
    assert reply.status == 200
    assert read_reply(reply)["y"]["data"] == data


def test_raw_requests_find_their_shape(call: Caller) -> None:
    raw = {"Inference-Header-Content-Length": "0"}
    reply = post(call, "matmul", X.tobytes(), raw)
    assert read_reply(reply)["y"]["shape"] == [1, 8]
    reply = post(call, "rows", bytes(24), raw)
    assert read_reply(reply)["y"]["shape"] == [2, 3]
    reply = post(call, "echo_bytes", "grüß dich".encode(), raw)
    assert read_reply(reply)["y"]["data"] == b"\x0b\0\0\0" + "grüß dich".encode()
    for model, data in (("pair", bytes(8)), ("rows", bytes(16)), ("echo_fp32", bytes(5))):
        reply = post(call, model, data, raw)
        assert reply.status == 400, model
        assert reply.json()["error"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br", None),
        ("identity", None),
        ("*", None),
        ("zstd", None),
        ("", None),
    ],
)
def test_only_who_asks_for_one_coding_gets_it(call: Caller, asked: str, given: str | None) -> None:
    body = json_body(tensor("x", "FP32", [1, 64], X.ravel().tolist()))
    reply = post(call, "matmul", body, {"Accept-Encoding": asked})
    assert reply.status == 200
    assert reply.headers.get("content-encoding") == given
    unpack = {"gzip": decompress, "deflate": zlib.decompress, None: bytes}[given]
    assert json.loads(unpack(reply.body))["outputs"][0]["data"] == Y


def test_a_compressed_answer_with_binary_data_tells_the_length_uncompressed(call: Caller) -> None:
    body, headers = binary_body(
        {
            "inputs": [binary_tensor("x", "FP32", [1, 64], 256)],
            "parameters": {"binary_data_output": True},
        },
        X.tobytes(),
    )
    reply = post(call, "matmul", body, {**headers, "Accept-Encoding": "gzip"})
    plain = RawReply(200, reply.headers, decompress(reply.body))
    assert np.frombuffer(read_reply(plain)["y"]["data"], "<f4").tolist() == Y


def test_the_content_type_of_a_request_does_not_matter(call: Caller) -> None:
    """The header of the protocol says what the body is, whatever a library puts there."""
    body = json_body(tensor("x", "FP32", [1, 64], X.ravel().tolist()))
    answers = {
        post(call, "matmul", body, {"Content-Type": kind}).body
        for kind in ("application/json", "application/octet-stream", "text/plain", "a")
    }
    assert len(answers) == 1


# -- every status of the contract --------------------------------------------------------------------


def test_every_status(served: ServerProcess, call: Caller) -> None:
    good = json_body(tensor("x", "FP32", [1], [1]))
    for status, code, method, path, body, headers in (
        (400, "invalid_input", "POST", "/v2/models/echo_fp32/infer", b'{"inputs":[]}', {}),
        (400, "malformed_request", "POST", "/v2/models/echo_fp32/infer", b"{", {}),
        (400, "invalid_input", "POST", "/infer", b"[1]", {"Content-Type": "application/json"}),
        (404, "not_found", "POST", "/v2/models/nobody/infer", good, {}),
        (404, "not_found", "GET", "/nowhere", b"", {}),
        (405, "method_not_allowed", "GET", "/v2/models/matmul/infer", b"", {}),
        (405, "method_not_allowed", "POST", "/v2", b"", {}),
        (413, "too_large", "POST", "/v2/models/echo_fp64/infer", None, {}),
        (414, "uri_too_long", "GET", "/" + "a" * 9000, b"", {}),
        (415, "unsupported_media", "POST", "/infer", b"a", {"Content-Type": "text/plain"}),
        (
            415,
            "unsupported_media",
            "POST",
            "/v2/models/matmul/infer",
            good,
            {"Content-Encoding": "br"},
        ),
        (431, "head_too_large", "GET", "/v2", b"", {"X-Note": "a" * 70_000}),
        (500, "model_failed", "POST", "/v2/models/raises/infer", good, {}),
    ):
        if body is None:
            body = b'{"inputs":[{"name":"x","shape":[9000000],"datatype":"FP64","data":['
            body += b",".join([b"1"] * 9_000_000) + b"]}]}"
        reply = call(method, path, body, headers)
        said = reply.json()
        assert (reply.status, said["code"]) == (status, code), said
        assert set(said) >= {"error", "code", "request_id"}
        if path != "/infer" or status == 415:
            assert list(said) == ["error", "code", "request_id"]


def test_a_request_id_of_the_caller_is_kept_if_it_is_harmless(call: Caller) -> None:
    for sent, kept in (("abc-7.x_Y", True), ("a b", False), ("a" * 65, False), ('"', False)):
        said = call("GET", "/nowhere", b"", {"X-Request-Id": sent}).json()
        assert (said["request_id"] == sent) is kept
        said = post(call, "nobody", b"{}", {"X-Request-Id": sent}).json()
        assert (said["request_id"] == sent) is kept


def test_a_server_that_is_ending(tmp_path: Path, serve) -> None:
    """503 with Retry-After, and not ready, while what is running is finished."""
    write_matmul(tmp_path / "models/matmul/1/model.onnx")
    with WaitingModel(tmp_path / "models/waits/1") as model:
        server: ServerProcess = serve(tmp_path / "models")
        running, asking = Caller(server.port), Caller(server.port)
        assert asking("GET", "/v2/health/ready").status == 200
        headers = {"Content-Type": "application/json"}
        running._connection.request("POST", "/infer?model=waits", b'{"value": 7}', headers)
        run = model.next_run()
        server.signal(15)
        server.wait_for_log("finishing what is running")
        # Ready turns false at once, so that nobody sends more; what is sent is soon refused too.
        body = json_body(tensor("x", "FP32", [1, 64], X.ravel().tolist()))
        until(lambda: post(asking, "matmul", body).status != 200)
        reply = post(asking, "matmul", body)
        assert (reply.status, reply.json()["code"]) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        for path in ("/v2/health/ready", "/v2/models/waits/ready", "/health"):
            reply = asking("GET", path)
            assert reply.status == 503, (path, reply)
        assert asking("GET", "/v2/health/live").json() == {"live": True}
        model.release(run)
        reply_of = running._connection.getresponse()
        assert json.loads(reply_of.read()) == {"status": "ok", "output": 7}
        running.close()
        asking.close()
        assert server.wait() == 0
