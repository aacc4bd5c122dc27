"""What the inference door does on the event loop, and what it leaves to threads."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import Any

import numpy as np
import pytest

from pelton.servers import inference
from pelton.servers.inference import QUICK_BYTES
from pelton.servers.inference_call import Target
from pelton.servers.user_formats import format_of
from servers.fake_engine import FORMATS, FakeEngine, ask, door_to, oip_binary, oip_json, whole


@pytest.fixture
def threads_of(monkeypatch):
    """Return a function that notes whether a function of a module runs on the loop's thread."""

    def watch(module: Any, name: str) -> list[bool]:
        on_loop: list[bool] = []
        work = getattr(module, name)

        def watched(*args: Any) -> Any:
            on_loop.append(threading.current_thread() is threading.main_thread())
            return work(*args)

        monkeypatch.setattr(module, name, watched)
        return on_loop

    return watch


def big_json(count: int) -> memoryview:
    tensor = {"name": "x", "shape": [count], "datatype": "FP32", "data": [0.5] * count}
    return memoryview(json.dumps({"inputs": [tensor]}).encode())


@pytest.mark.parametrize(
    ("count", "on_loop"), [(10, True), (QUICK_BYTES, False)], ids=["short", "long"]
)
async def test_long_json_is_decoded_and_written_in_a_thread(threads_of, count, on_loop) -> None:
    decoding = threads_of(inference.oip_request, "decode_request")
    writing = threads_of(inference.oip_response, "encode_response")
    reply = await door_to(FakeEngine()).answer(Target("scale"), {}, big_json(count))
    assert reply.status == 200
    assert len(json.loads(whole(reply))["outputs"][0]["data"]) == count
    assert (decoding, writing) == ([on_loop], [on_loop])


async def test_a_big_binary_tensor_stays_on_the_loop(threads_of) -> None:
    """It is a view of the body, however big: a thread would only cost time."""
    decoding = threads_of(inference.oip_request, "decode_request")
    writing = threads_of(inference.oip_response, "encode_response")
    headers, body = oip_binary(
        np.zeros(1_000_000, np.float32), parameters={"binary_data_output": True}
    )
    reply = await door_to(FakeEngine()).answer(Target("scale"), headers, body)
    assert reply.status == 200
    assert (decoding, writing) == ([True], [True])


async def test_many_byte_strings_are_decoded_in_a_thread(threads_of) -> None:
    decoding = threads_of(inference.oip_request, "decode_request")
    raw = (b"\x01\x00\x00\x00a") * QUICK_BYTES
    tensor = {
        "name": "x",
        "shape": [QUICK_BYTES],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    engine = FakeEngine(outputs=lambda inputs: {"n": np.array([inputs["x"].size])})
    reply = await door_to(engine).answer(
        Target("words"),
        {"inference-header-content-length": str(len(head))},
        memoryview(head + raw),
    )
    assert json.loads(whole(reply))["outputs"][0]["data"] == [QUICK_BYTES]
    assert decoding == [False]


async def test_a_long_json_answer_to_a_short_request_is_written_in_a_thread(threads_of) -> None:
    writing = threads_of(inference.oip_response, "encode_response")
    engine = FakeEngine(outputs=lambda inputs: {"y": np.zeros(1_000_000, np.float32)})
    await door_to(engine).answer(Target("scale"), {}, oip_json())
    assert writing == [False]


async def test_a_long_list_becomes_an_array_in_a_thread(threads_of) -> None:
    converting = threads_of(inference, "to_inputs")
    body = json.dumps([0.5] * 100_000).encode()
    reply = await ask(FakeEngine(), "application/json", body)
    assert reply.status == 200
    assert converting == [False]


async def test_an_object_models_inputs_need_no_thread(threads_of) -> None:
    converting = threads_of(inference, "to_inputs")
    engine = FakeEngine(outputs=lambda inputs: {"n": len(inputs["x"])})
    body = json.dumps({"x": [0.5] * 100_000}).encode()
    reply = await ask(engine, "application/json", body, "model=robot")
    assert json.loads(whole(reply))["output"] == 100_000
    assert converting == [True]


@pytest.mark.parametrize(
    ("name", "count", "on_loop"),
    [
        ("json", 10, True),
        ("json", 100_000, False),
        ("pickle", 100_000, True),
        ("msgpack", 100_000, True),
    ],
)
async def test_only_lists_of_many_elements_are_written_in_a_thread(
    monkeypatch, name: str, count: int, on_loop: bool
) -> None:
    content_type, dumps, loads = FORMATS[name]
    form, writing = format_of(content_type), []

    def encode(value: Any, style: Any) -> Any:
        writing.append(threading.current_thread() is threading.main_thread())
        return form.encode(value, style)

    watched = dataclasses.replace(form, encode=encode)
    monkeypatch.setattr(inference, "format_of", lambda content_type: watched)
    engine = FakeEngine(outputs=lambda inputs: {"y": np.zeros(count, np.float32)})
    reply = await ask(engine, content_type, dumps({"x": np.ones(2, np.float32)}))
    assert len(loads(whole(reply))["output"]) == count
    assert writing == [on_loop]
