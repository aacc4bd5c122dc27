"""The real `tritonclient`, blocking and asyncio: what goes with the tensors, and refusals."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tritonclient.http import InferRequestedOutput
from tritonclient.utils import InferenceServerException

from e2e.triton_calls import assert_same, tensor_of
from support_server import ServerProcess, matmul_weights

pytestmark = [
    # aiohttp's, and about the client: it warns of big bodies, and of the answers that the client
    # does not read to the end.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]


# -- around the tensors ----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [None, "gzip", "deflate"])
@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
async def test_compression_both_ways(triton: Any, sent: str | None, asked: str | None) -> None:
    x = np.arange(64, dtype="f4").reshape(1, 64)
    for binary in (True, False):
        result = await triton.infer(
            "matmul",
            [tensor_of("x", x, "FP32", binary)],
            outputs=[InferRequestedOutput("y", binary_data=binary)],
            request_compression_algorithm=sent,
            response_compression_algorithm=asked,
        )
        assert_same(result.as_numpy("y"), x @ matmul_weights())


async def test_the_id_comes_back(triton: Any) -> None:
    inputs = [tensor_of("x", np.ones(1, "f4"), "FP32")]
    for request_id in ("7", "grüß dich 你好", 'a "quoted" \\ id', "x" * 3000):
        result = await triton.infer("echo_fp32", inputs, request_id=request_id)
        assert result.get_response()["id"] == request_id
    result = await triton.infer("echo_fp32", inputs)
    assert "id" not in result.get_response()


async def test_parameters_are_taken(triton: Any) -> None:
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
        result = await triton.infer("echo_fp32", inputs, **more)
        assert_same(result.as_numpy("y"), np.ones(1, "f4"))
    assert await triton.is_server_live(headers={"X-Note": "a"}, query_params={"a": "b"})


async def test_big_tensors(triton: Any) -> None:
    image = np.random.default_rng(1).standard_normal(4_000_000).astype("f4")
    result = await triton.infer("echo_fp32", [tensor_of("x", image, "FP32")])
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
    triton: Any, model: str, version: str, inputs: list[Any], status: str, why: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await triton.infer(model, [tensor_of(*each) for each in inputs], model_version=version)
    assert refused.value.status() == status
    assert why in refused.value.message()


async def test_a_refusal_can_be_read_when_compression_was_asked_for(triton: Any) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await triton.infer(
            "nobody",
            [tensor_of("x", ONE, "FP32")],
            response_compression_algorithm="gzip",
        )
    assert refused.value.status() == "404"


async def test_what_is_not_offered_says_so(triton: Any) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("get_inference_statistics", ()),
        ("get_trace_settings", ()),
        ("get_log_settings", ()),
    ]
    for name, arguments in calls:
        with pytest.raises(InferenceServerException) as refused:
            await getattr(triton, name)(*arguments)
        assert refused.value.status() in ("404", "405"), name


async def test_what_is_there_is_listed(triton: Any) -> None:
    index = await triton.get_model_repository_index()
    assert {"name": "matmul", "version": "1", "state": "READY", "reason": ""} in index
    assert len({row["name"] for row in index}) == len(index)


@pytest.mark.parametrize("call", ["load_model", "unload_model"])
async def test_models_are_changed_only_where_that_is_allowed(triton: Any, call: str) -> None:
    with pytest.raises(InferenceServerException, match="--explicit-models") as refused:
        await getattr(triton, call)("matmul")
    assert refused.value.status() == "403"
    assert await triton.is_model_ready("matmul")


async def test_an_output_that_does_not_exist(triton: Any) -> None:
    with pytest.raises(InferenceServerException, match="has no output 'z'"):
        await triton.infer(
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
    files = Path(__file__).parent.glob("test_oip_tritonclient*.py")
    tried = "".join(file.read_text() for file in files)
    left_to_later = {
        "update_trace_settings",
        "update_log_settings",
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
