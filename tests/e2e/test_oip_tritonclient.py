"""The real `tritonclient`, sync and asyncio, against the real server.

Each check is written once, as a coroutine; `Sync` lends the blocking client the same face.
"""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

import pelton
from pelton.tensors import DATATYPES
from support_server import ServerProcess, matmul_weights

pytestmark = [
    # aiohttp's, and about the client: it warns of big bodies, and of the answers that the client
    # does not read to the end.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]

SAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "sample.json"

VALUES: dict[str, np.ndarray] = {
    "BOOL": np.array([True, False, True]),
    **{
        name: np.array([np.iinfo(dtype).min, 0, 7, np.iinfo(dtype).max], dtype)
        for name, dtype in (
            ("UINT8", "u1"),
            ("UINT16", "u2"),
            ("UINT32", "u4"),
            ("UINT64", "u8"),
            ("INT8", "i1"),
            ("INT16", "i2"),
            ("INT32", "i4"),
            ("INT64", "i8"),
        )
    },
    "FP16": np.array([0.0, -1.5, 65504, np.inf, np.nan], "f2"),
    "FP32": np.array([0.1, -1.5, 3.4028235e38, 1e-45], "f4"),
    "FP64": np.array([0.1, -1.5, 1.7976931348623157e308, 5e-324], "f8"),
    "BF16": np.array([0.1, -1.5, 3.3895314e38, np.inf], ml_dtypes.bfloat16),
    "BYTES": np.array([b"plain", "grüß dich 你好".encode(), b"", b"tail\0\0"], np.object_),
}
"""A tensor of each datatype, with the ends of its range."""

NOT_TEXT = np.array([b"\xff\xfe\x00", bytes(range(256)), b""], np.object_)


class Sync:
    """The blocking client with methods to be awaited."""

    def __init__(self, client: tritonclient.http.InferenceServerClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            return method(*arguments, **named)

        return call


@pytest.fixture(params=["sync", "aio"])
async def client(request: pytest.FixtureRequest, served: ServerProcess) -> AsyncIterator[Any]:
    address = f"127.0.0.1:{served.port}"
    if request.param == "sync":
        with tritonclient.http.InferenceServerClient(address) as blocking:
            yield Sync(blocking)
    else:
        async with tritonclient.http.aio.InferenceServerClient(address) as asynchronous:
            yield asynchronous


def tensor_of(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def assert_same(actual: np.ndarray, wanted: np.ndarray) -> None:
    """Compare bit by bit, so that NaN is equal and -0.0 is not 0.0."""
    assert actual.shape == wanted.shape
    if wanted.dtype == np.object_:
        as_bytes = [each.encode() if isinstance(each, str) else each for each in actual.ravel()]
        assert as_bytes == wanted.ravel().tolist()
    else:
        assert actual.dtype == wanted.dtype
        assert actual.tobytes() == wanted.tobytes()


# -- health and metadata ---------------------------------------------------------------------------


async def test_health(client: Any) -> None:
    assert await client.is_server_live() is True
    assert await client.is_server_ready() is True
    assert await client.is_model_ready("matmul") is True
    assert await client.is_model_ready("matmul", "1") is True
    assert await client.is_model_ready("matmul", "2") is False
    assert await client.is_model_ready("nobody") is False
    gc.collect()  # what aiohttp warns of shall come now, while it is not listened to


async def test_server_metadata(client: Any) -> None:
    told = await client.get_server_metadata()
    assert told["name"] == "pelton"
    assert told["version"] == pelton.__version__
    assert {"binary_tensor_data", "classification", "model_configuration", "parameters"} <= set(
        told["extensions"]
    )


async def test_model_metadata(client: Any) -> None:
    wanted = {
        "name": "matmul",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}],
    }
    assert await client.get_model_metadata("matmul") == wanted
    assert await client.get_model_metadata("matmul", "1") == wanted


async def test_model_config(client: Any) -> None:
    told = await client.get_model_config("matmul", "1")
    assert told["name"] == "matmul"
    assert told["max_batch_size"] == 0
    assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 64]}]
    assert told["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 8]}]
    assert (await client.get_model_config("echo_bytes"))["input"][0]["data_type"] == "TYPE_STRING"


async def test_names_are_quoted(client: Any) -> None:
    for name in ("no such/model", "a%2fb", "ein Modell", "模型", "?", "#"):
        assert await client.is_model_ready(name) is False
        with pytest.raises(InferenceServerException) as refused:
            await client.get_model_metadata(name)
        assert refused.value.status() == "404"
    gc.collect()


# -- tensors ---------------------------------------------------------------------------------------


def _ways() -> list[Any]:
    return [
        pytest.param(name, given, wanted, id=f"{name}-{given}-{wanted}")
        for name, row in DATATYPES.items()
        for given in ("binary", "JSON")
        for wanted in ("binary", "JSON", "default")
        if row.in_json or (given == "binary" and wanted != "JSON")
    ]


@pytest.mark.parametrize(("name", "given", "wanted"), _ways())
async def test_every_datatype_both_ways(client: Any, name: str, given: str, wanted: str) -> None:
    values = VALUES[name]
    outputs = None
    if wanted != "default":
        outputs = [InferRequestedOutput("y", binary_data=wanted == "binary")]
    result = await client.infer(
        f"echo_{name.lower()}",
        [tensor_of("x", values, name, binary=given == "binary")],
        outputs=outputs,
    )
    said = result.get_output("y")
    assert said["datatype"] == name
    assert ("data" in said) == (wanted == "JSON")
    assert ("parameters" in said) == (wanted != "JSON")
    assert_same(result.as_numpy("y"), values)


async def test_bytes_that_are_no_text(client: Any) -> None:
    inputs = [tensor_of("value", NOT_TEXT, "BYTES")]
    result = await client.infer("plain", inputs)
    assert_same(result.as_numpy("output"), NOT_TEXT)
    with pytest.raises(InferenceServerException, match="not UTF-8 text") as refused:
        await client.infer(
            "plain", inputs, outputs=[InferRequestedOutput("output", binary_data=False)]
        )
    assert refused.value.status() == "400"
    # The strings of ONNX are text; its runtime would give something else back.
    with pytest.raises(InferenceServerException, match="not UTF-8 text") as refused:
        await client.infer("echo_bytes", [tensor_of("x", NOT_TEXT, "BYTES")])
    assert refused.value.status() == "400"


async def test_floats_without_a_number_as_json(client: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf], "f4")
    result = await client.infer(
        "echo_fp32",
        [tensor_of("x", values, "FP32")],
        outputs=[InferRequestedOutput("y", binary_data=False)],
    )
    assert result.get_output("y")["data"] == ["NaN", "Infinity", "-Infinity"]
    # numpy reads these names, and with it the client.
    assert np.array_equal(result.as_numpy("y"), values, equal_nan=True)


@pytest.mark.parametrize("name", DATATYPES)
async def test_zero_elements(client: Any, name: str) -> None:
    nothing = VALUES[name][:0]
    for binary in (True, False):
        if not binary and not DATATYPES[name].in_json:
            continue
        result = await client.infer(
            f"echo_{name.lower()}",
            [tensor_of("x", nothing, name, binary=binary)],
            outputs=[InferRequestedOutput("y", binary_data=binary)],
        )
        assert result.as_numpy("y").shape == (0,)


async def test_inputs_and_outputs_of_both_kinds_in_one_request(client: Any) -> None:
    first, second = np.array([1.5, 2.5], "f4"), np.array([3.5], "f4")
    for binary_in in ((True, False), (False, True)):
        for binary_out in ((True, False), (False, True)):
            result = await client.infer(
                "pair",
                [
                    tensor_of(f"x{index}", array, "FP32", binary)
                    for index, (array, binary) in enumerate(
                        zip((first, second), binary_in, strict=True)
                    )
                ],
                outputs=[
                    InferRequestedOutput(f"y{index}", binary_data=binary)
                    for index, binary in enumerate(binary_out)
                ],
            )
            assert ["data" in each for each in result.get_response()["outputs"]] == [
                not binary for binary in binary_out
            ]
            assert_same(result.as_numpy("y0"), first)
            assert_same(result.as_numpy("y1"), second)


async def test_only_the_outputs_that_are_wanted(client: Any) -> None:
    inputs = [tensor_of(f"x{i}", np.array([i], "f4"), "FP32") for i in range(2)]
    result = await client.infer("pair", inputs, outputs=[InferRequestedOutput("y1")])
    assert result.as_numpy("y0") is None
    assert_same(result.as_numpy("y1"), np.array([1], "f4"))


async def test_inputs_in_another_order(client: Any) -> None:
    inputs = [tensor_of(f"x{i}", np.array([i] * (i + 1), "f4"), "FP32") for i in (1, 0)]
    result = await client.infer("pair", inputs)
    assert_same(result.as_numpy("y0"), np.array([0], "f4"))
    assert_same(result.as_numpy("y1"), np.array([1, 1], "f4"))


async def test_a_product_of_matrices(client: Any) -> None:
    x = np.arange(3 * 64, dtype="f4").reshape(3, 64) % 17
    result = await client.infer("matmul", [tensor_of("x", x, "FP32")])
    assert_same(result.as_numpy("y"), x @ matmul_weights())
    result = await client.infer("matmul", [tensor_of("x", x, "FP32")], model_version="1")
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("binary", [True, False])
async def test_classification_with_labels(client: Any, binary: bool) -> None:
    sample = json.loads(SAMPLE.read_text())["inputs"][0]
    image = np.array(sample["data"], np.uint8).reshape(sample["shape"])
    batch = np.concatenate([image, image])
    result = await client.infer(
        "digits",
        [tensor_of("image", batch, "UINT8", binary)],
        outputs=[InferRequestedOutput("probabilities", binary_data=binary, class_count=3)],
    )
    best = result.as_numpy("probabilities")
    assert best.shape == (2, 3)
    plain = await client.infer("digits", [tensor_of("image", batch, "UINT8", binary)])
    scores = plain.as_numpy("probabilities")
    for row, order in zip(best, np.argsort(-scores, axis=1, kind="stable"), strict=True):
        texts = [each.decode() if isinstance(each, bytes) else each for each in row]
        values, indices, labels = zip(*(text.split(":") for text in texts), strict=True)
        assert [int(index) for index in indices] == order[:3].tolist()
        assert [np.float32(value) for value in values] == scores[0][order[:3]].tolist()
        assert all(labels)


async def test_classification_without_labels(client: Any) -> None:
    x = np.zeros((1, 64), "f4")
    result = await client.infer(
        "matmul",
        [tensor_of("x", x, "FP32")],
        outputs=[InferRequestedOutput("y", class_count=2)],
    )
    assert result.as_numpy("y").tolist() == [[b"0.0:0", b"0.0:1"]]


# -- around the tensors ----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [None, "gzip", "deflate"])
@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
async def test_compression_both_ways(client: Any, sent: str | None, asked: str | None) -> None:
    x = np.arange(64, dtype="f4").reshape(1, 64)
    for binary in (True, False):
        result = await client.infer(
            "matmul",
            [tensor_of("x", x, "FP32", binary)],
            outputs=[InferRequestedOutput("y", binary_data=binary)],
            request_compression_algorithm=sent,
            response_compression_algorithm=asked,
        )
        assert_same(result.as_numpy("y"), x @ matmul_weights())


async def test_the_id_comes_back(client: Any) -> None:
    inputs = [tensor_of("x", np.ones(1, "f4"), "FP32")]
    for request_id in ("7", "grüß dich 你好", 'a "quoted" \\ id', "x" * 3000):
        result = await client.infer("echo_fp32", inputs, request_id=request_id)
        assert result.get_response()["id"] == request_id
    result = await client.infer("echo_fp32", inputs)
    assert "id" not in result.get_response()


async def test_parameters_are_taken(client: Any) -> None:
    inputs = [tensor_of("x", np.ones(1, "f4"), "FP32")]
    for more in (
        {"priority": 1},
        {"timeout": 5_000_000},
        {"sequence_id": 9, "sequence_start": True, "sequence_end": True},
        {"sequence_id": "nine", "sequence_start": True},
        {"parameters": {"text": "a", "number": 1, "float": 1.5, "flag": True}},
        {"headers": {"X-Note": "a"}},
        {"query_params": {"a": "b c", "list": [1, 2]}},
    ):
        result = await client.infer("echo_fp32", inputs, **more)
        assert_same(result.as_numpy("y"), np.ones(1, "f4"))
    assert await client.is_server_live(headers={"X-Note": "a"}, query_params={"a": "b"})


async def test_big_tensors(client: Any) -> None:
    image = np.random.default_rng(1).standard_normal(4_000_000).astype("f4")
    result = await client.infer("echo_fp32", [tensor_of("x", image, "FP32")])
    assert_same(result.as_numpy("y"), image)


# -- refusals --------------------------------------------------------------------------------------

ONE = np.ones(1, "f4")


@pytest.mark.parametrize(
    ("model", "version", "inputs", "status", "why"),
    [
        ("nobody", "", [("x", ONE, "FP32")], "404", "unknown model 'nobody'"),
        ("matmul", "2", [("x", ONE, "FP32")], "404", "version '2' of model 'matmul'"),
        ("echo_fp32", "", [("z", ONE, "FP32")], "400", "input 'x' is missing"),
        ("echo_fp32", "", [("x", ONE, "FP32"), ("z", ONE, "FP32")], "400", "no input 'z'"),
        ("echo_fp64", "", [("x", ONE, "FP32")], "400", "FP32, but the model wants FP64"),
        ("rows", "", [("x", ONE, "FP32")], "400", "but the model wants [-1, 3]"),
        ("raises", "", [("value", ONE, "FP32")], "500", "model 'raises' raised ValueError"),
    ],
)
async def test_refusals(
    client: Any, model: str, version: str, inputs: list[Any], status: str, why: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await client.infer(model, [tensor_of(*each) for each in inputs], model_version=version)
    assert refused.value.status() == status
    assert why in refused.value.message()


async def test_a_refusal_can_be_read_when_compression_was_asked_for(client: Any) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await client.infer(
            "nobody",
            [tensor_of("x", ONE, "FP32")],
            response_compression_algorithm="gzip",
        )
    assert refused.value.status() == "404"


async def test_what_is_not_offered_says_so(client: Any) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("get_model_repository_index", ()),
        ("load_model", ("matmul",)),
        ("get_inference_statistics", ()),
        ("get_trace_settings", ()),
        ("get_log_settings", ()),
        ("get_system_shared_memory_status", ()),
        ("register_cuda_shared_memory", ("r", b"handle", 0, 64)),
    ]
    for name, arguments in calls:
        with pytest.raises(InferenceServerException) as refused:
            await getattr(client, name)(*arguments)
        assert refused.value.status() in ("404", "405"), name


async def test_an_output_that_does_not_exist(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="has no output 'z'"):
        await client.infer(
            "echo_fp32", [tensor_of("x", ONE, "FP32")], outputs=[InferRequestedOutput("z")]
        )


# -- what only one of the clients has --------------------------------------------------------------


def test_async_infer(served: ServerProcess) -> None:
    address = f"127.0.0.1:{served.port}"
    with tritonclient.http.InferenceServerClient(address, concurrency=8) as client:
        asked = [
            client.async_infer(
                "echo_fp32",
                [tensor_of("x", np.full(number + 1, number, "f4"), "FP32")],
                request_id=str(number),
            )
            for number in range(32)
        ]
        for number, request in enumerate(asked):
            result = request.get_result(timeout=20)
            assert result.get_response()["id"] == str(number)
            assert_same(result.as_numpy("y"), np.full(number + 1, number, "f4"))
        with pytest.raises(InferenceServerException, match="unknown model"):
            client.async_infer("nobody", [tensor_of("x", ONE, "FP32")]).get_result()


def test_bodies_made_and_read_without_a_connection(served: ServerProcess) -> None:
    import http.client

    body, json_size = tritonclient.http.InferenceServerClient.generate_request_body(
        [tensor_of("x", ONE, "FP32")]
    )
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request(
        "POST",
        "/v2/models/echo_fp32/infer",
        body,
        {"Inference-Header-Content-Length": str(json_size)},
    )
    reply = connection.getresponse()
    length = reply.getheader("Inference-Header-Content-Length")
    assert length is not None
    result = tritonclient.http.InferenceServerClient.parse_response_body(
        reply.read(), header_length=int(length)
    )
    connection.close()
    assert_same(result.as_numpy("y"), ONE)


def test_no_call_of_the_client_is_left_out() -> None:
    """A new release of the client that can do more is noticed here."""
    tried = Path(__file__).read_text()
    left_to_later = {
        "unload_model",
        "update_trace_settings",
        "update_log_settings",
        "register_system_shared_memory",
        "unregister_system_shared_memory",
        "get_cuda_shared_memory_status",
        "unregister_cuda_shared_memory",
        "close",
        "plugin",
        "register_plugin",
        "unregister_plugin",
    }
    offered = {
        name
        for name, _ in inspect.getmembers(tritonclient.http.InferenceServerClient, callable)
        if not name.startswith("_")
    }
    assert {name for name in offered - left_to_later if name not in tried} == set()
