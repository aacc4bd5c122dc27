"""Our clients against our server: what one writes, the other reads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client.both_clients import KINDS, MakeClient, clients
from pelton import errors
from pelton.client import Bounds, Client, Retries, send_inference_request
from pelton.tensors import DATATYPES
from served_models import write_models
from support_server import ServerProcess, matmul_weights, until, write_reduce


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(write_models(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(params=KINDS)
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    with clients(request.param) as make:
        yield make


def values_of(datatype: str) -> np.ndarray:
    """Return the extremes of a datatype, and a few values between."""
    dtype = DATATYPES[datatype].dtype
    if datatype == "BYTES":
        return np.array([b"", b"a\0b\0", "größer".encode()], object)
    if datatype == "BOOL":
        return np.array([True, False, True])
    if datatype == "BF16":
        return (
            np.array([1.0, -2.5, np.inf, 3.0e38, 0.0], np.float32)
            .view(np.uint32)
            .__and__(np.uint32(0xFFFF0000))
            .view(np.float32)
        )
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return np.array([limits.min, limits.max, limits.tiny, -0.0, np.nan, np.inf], dtype)
    whole = np.iinfo(dtype)
    return np.array([whole.min, 0, 1, whole.max], dtype)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("count", ["some", "none"])
def test_every_datatype_comes_back_as_it_was_sent(server, make_client, datatype, count):
    sent = values_of(datatype)[: None if count == "some" else 0]
    response = make_client(server.url).infer(
        f"echo_{datatype.lower()}", {"x": sent}, datatypes={"x": datatype}, request_id="r-7"
    )
    answer = response.outputs["y"]
    np.testing.assert_array_equal(answer, sent)
    assert answer.dtype == DATATYPES[datatype].dtype
    assert answer.shape == sent.shape
    if answer.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(answer), np.signbit(sent))
    assert (response.model, response.version, response.id) == (
        f"echo_{datatype.lower()}",
        "1",
        "r-7",
    )


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda each: each[::-1],
        lambda each: each.astype(">f4"),
        lambda each: np.broadcast_to(each[:1], (4, 64)),
    ],
    ids=["columns first", "backwards", "big-endian", "broadcast"],
)
def test_an_array_may_lie_in_memory_as_it_likes(server, make_client, layout):
    laid = layout(np.arange(256, dtype=np.float32).reshape(4, 64))
    answer = make_client(server.url).infer("matmul", {"x": laid}).outputs["y"]
    np.testing.assert_array_equal(answer, laid.astype(np.float32) @ matmul_weights())


def test_only_the_wanted_outputs_come(server, make_client):
    inputs = {"x0": np.float32([1, 2]), "x1": np.float32([3])}
    client = make_client(server.url)
    assert list(client.infer("pair", inputs).outputs) == ["y0", "y1"]
    response = client.infer("pair", inputs, outputs=["y1"], version=1)
    assert list(response.outputs) == ["y1"]
    np.testing.assert_array_equal(response.outputs["y1"], inputs["x1"])


X = np.zeros((1, 64), np.float32)
REFUSED = {
    "unknown model": (("nobody", {"x": X}), {}, errors.NotFound, "unknown model 'nobody'"),
    "unknown version": (("matmul", {"x": X}), {"version": 9}, errors.NotFound, "9"),
    "unknown input": (("matmul", {"z": X}), {}, errors.InvalidRequest, "takes x FP32 [-1, 64]"),
    "missing input": (("pair", {"x0": X[0]}), {}, errors.InvalidRequest, "x1"),
    "unknown output": (("matmul", {"x": X}), {"outputs": ["q"]}, errors.InvalidRequest, "q"),
    "datatype": (("matmul", {"x": X.astype("f8")}), {}, errors.InvalidRequest, "FP32"),
    "shape": (("matmul", {"x": X[:, :9]}), {}, errors.InvalidRequest, "64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_is_a_typed_error_and_the_client_goes_on(server, make_client, case):
    arguments, options, kind, said = REFUSED[case]
    client = make_client(server.url)
    with pytest.raises(errors.PeltonError) as caught:
        client.infer(*arguments, **options)
    assert type(caught.value) is kind
    assert said in caught.value.message
    np.testing.assert_array_equal(
        client.infer("matmul", {"x": X}).outputs["y"], X @ matmul_weights()
    )


def test_a_model_that_fails_is_told_from_a_wrong_request(server, make_client):
    client = make_client(server.url)
    with pytest.raises(errors.ModelFailed) as caught:
        client.predict({"value": 1}, "raises")
    assert caught.value.code is errors.Code.MODEL_FAILED
    assert client.predict({"value": 1}, "plain") == 1


PLAIN = {
    "text": "größer ☃",
    "numbers": [0, -1, 2**70, 1.5, float("inf"), 1 + 2j, True, None],
    "bytes": b"\0\xff",
    "nested": {"a": [{"b": [1, [2, []]]}], 5: "five"},
    "image": np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "scalar": np.array(0.25, np.float32),
    "words": np.array(["a", "bc"]),
}


def assert_same(got: object, sent: object) -> None:
    if isinstance(sent, np.ndarray):
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, sent)
        assert got.dtype == sent.dtype
    elif isinstance(sent, dict):
        assert isinstance(got, dict)
        assert list(got) == list(sent)
        for key, each in sent.items():
            assert_same(got[key], each)
    elif isinstance(sent, list):
        assert isinstance(got, list)
        assert len(got) == len(sent)
        for one, other in zip(got, sent, strict=True):
            assert_same(one, other)
    else:
        assert type(got) is type(sent)
        assert got == sent


def test_any_plain_value_comes_back_as_it_was_sent(server, make_client):
    client = make_client(server.url)
    for value in (PLAIN, [PLAIN], "text", None, PLAIN["image"]):
        assert_same(client.predict({"value": value}, "plain"), value)


def test_the_robots_function_gets_the_same(server):
    answer = send_inference_request({"value": PLAIN}, f"{server.url}/infer?model=plain")
    assert_same(answer, PLAIN)
    with pytest.raises(RuntimeError, match="unknown model 'nobody'"):
        send_inference_request({"value": 1}, f"{server.url}/infer?model=nobody")


def test_where_several_models_are_served_one_has_to_be_named(server, make_client):
    with pytest.raises(errors.InvalidRequest, match="matmul"):
        make_client(server.url).predict({"value": 1})


def test_what_the_server_tells_about_itself(server, make_client):
    client = make_client(server.url)
    assert client.server_live()
    assert client.server_ready()
    assert client.model_ready("matmul")
    assert client.model_ready("matmul", 1)
    assert not client.model_ready("nobody")
    assert client.server_metadata().name == "pelton"
    assert "binary_tensor_data" in client.server_metadata().extensions
    models = client.models()
    names = [model.name for model in models]
    assert names == sorted(names)
    assert {model.state for model in models} == {"READY"}
    (row,) = [model for model in models if model.name == "matmul"]
    described = client.model_metadata("matmul")
    assert (row.versions, row.inputs, row.outputs) == (
        described.versions,
        described.inputs,
        described.outputs,
    )
    assert [(spec.name, spec.datatype, spec.shape) for spec in described.inputs] == [
        ("x", "FP32", (-1, 64))
    ]


def test_statistics_count_what_was_asked(server, make_client):
    client = make_client(server.url)
    before = client.stats("rows")["total_requests"]
    client.infer("rows", {"x": np.zeros((2, 3), np.float32)})
    assert client.stats("rows")["total_requests"] == before + 1
    assert client.stats()["total_requests"] >= before + 1


def test_many_threads_share_one_client(server):
    weights = matmul_weights()

    with Client(server.url, bounds=Bounds(max_connections=4)) as client:

        def ask(number: int) -> bool:
            rows = np.arange(number, number + 64, dtype=np.float32).reshape(1, 64)
            answer = client.infer("matmul", {"x": rows}).outputs["y"]
            return np.array_equal(answer, rows @ weights)

        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(ask, range(400)))


def test_a_big_picture_is_taken_and_one_too_big_is_refused_while_it_is_sent(
    serve, tmp_path, make_client
):
    server = serve(write_reduce(tmp_path / "sum.onnx"), "--max-body-bytes", "8MiB")
    client = make_client(server.url, retries=Retries(attempts=1))
    picture = np.full((1080, 1920, 3), 3, np.uint8)
    assert client.infer("sum", {"image": picture}).outputs["total"] == [picture.sum()]
    with pytest.raises(errors.InvalidRequest) as caught:
        client.infer("sum", {"image": np.zeros((5000, 5000, 3), np.uint8)})
    assert caught.value.code is errors.Code.TOO_LARGE
    assert client.infer("sum", {"image": picture}).outputs["total"] == [picture.sum()]


def test_a_server_that_was_started_anew_is_found_again(serve, tmp_path, make_client):
    models = write_models(tmp_path)
    first = serve(models)
    client = make_client(first.url, retries=Retries(attempts=1))
    assert client.server_ready()
    first.stop()
    with pytest.raises(errors.ConnectionFailed, match="connection refused; is the server running"):
        client.server_ready()
    serve(models, "--port", str(first.port))
    answer = client.infer("matmul", {"x": X}).outputs["y"]
    np.testing.assert_array_equal(answer, X @ matmul_weights())


def test_a_connection_that_the_server_found_idle_is_replaced(serve, tmp_path, make_client):
    server = serve(write_models(tmp_path), "--idle-timeout-s", "0.2s")
    client = make_client(server.url, retries=Retries(attempts=1))
    assert client.server_ready()
    until(lambda: server.connections() == 0)
    answer = client.infer("matmul", {"x": X}).outputs["y"]
    np.testing.assert_array_equal(answer, X @ matmul_weights())
