"""The inference endpoints, from body to reply, over an engine that a test writes down."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import pickle
import threading
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from pelton.errors import (
    Code,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    NotFound,
    PeltonError,
    Unavailable,
)
from pelton.messages import InferRequest, InferResponse
from pelton.servers import inference
from pelton.servers.inference import (
    QUICK_BYTES,
    InferenceDoor,
    Target,
    inference_target,
    wants_compression,
)
from pelton.servers.replies import Reply
from pelton.servers.user_formats import format_of
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.limits import Limits
from pelton.wire.status import http_status

X = TensorSpec("x", "FP32", (-1,))
Y = TensorSpec("y", "FP32", (-1,))
SCALE = ModelMetadata("scale", "3", "fake", (X,), (Y,))
ROBOT = ModelMetadata("robot", "1", "fake", (), (), takes_objects=True)
WORDS = ModelMetadata("words", "1", "fake", (TensorSpec("x", "BYTES", (-1,)),), ())


class FakeEngine:
    """Knows three models; answers with what `outputs` makes of the inputs, or raises it."""

    def __init__(self, *models: ModelMetadata, outputs: Any = None) -> None:
        self._models = {model.name: model for model in models or (SCALE, ROBOT, WORDS)}
        self._outputs = outputs or (lambda inputs: {"y": inputs["x"] * 2})
        self.requests: list[InferRequest] = []
        self.refusals: list[tuple[str, Code]] = []

    async def infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        if isinstance(self._outputs, BaseException):
            raise self._outputs
        model = self.metadata(request.model)
        outputs = self._outputs(request.inputs)
        return InferResponse(model.name, model.version, outputs, request.id)

    def refused(self, model: str, code: Code) -> None:
        self.refusals.append((model, code))

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        if name not in self._models:
            raise NotFound(f"unknown model {name!r}")
        return self._models[name]

    def names(self) -> list[str]:
        return sorted(self._models)


def door_to(engine: FakeEngine, default: str | None = None) -> InferenceDoor:
    return InferenceDoor(engine, Limits(), default)


def whole(reply: Reply) -> bytes:
    """Return the body, having checked that the size which will be announced is its size."""
    body = b"".join(bytes(chunk) for chunk in reply.chunks)
    assert reply.size == len(body)
    return body


# -- where a request goes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/infer", Target(None, None, "a=b")),
        ("/v2/models/m/infer", Target("m", None, "a=b")),
        ("/v2/models/m/versions/12/infer", Target("m", "12", "a=b")),
        ("/v2/models/..my-model/infer", Target("..my-model", None, "a=b")),
        ("/v2/models/versions/infer", Target("versions", None, "a=b")),
        ("/", None),
        ("/infer/", None),
        ("/v2/models/m/infer/", None),
        ("/v2/models//infer", None),
        ("/v2/models/a/b/infer", None),
        ("/v2/models/m/versions//infer", None),
        ("/v2/models/m/versions/infer", None),
        ("/v2/models/m%2Fn/infer", None),
        ("/v2/models/m/ready", None),
        ("/V2/models/m/infer", None),
        ("/x/v2/models/m/infer", None),
        ("http://evil/infer", None),
    ],
)
def test_which_paths_are_inference(path: str, target: Target | None) -> None:
    assert inference_target(path, "a=b") == target


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [
        ("gzip", "gzip"),
        (" GZIP ", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", None),
        ("gzip;q=1", None),
        ("br", None),
        ("identity", None),
        ("*", None),
        ("", None),
        (None, None),
    ],
)
def test_only_one_coding_alone_counts_as_asking_for_it(accepts, coding) -> None:
    assert wants_compression({} if accepts is None else {"accept-encoding": accepts}) == coding


# -- the Open Inference Protocol -----------------------------------------------------------------


def oip_json(**further: Any) -> memoryview:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2.5]}
    return memoryview(json.dumps({"inputs": [tensor], **further}).encode())


def oip_binary(values: np.ndarray, **further: Any) -> tuple[dict[str, str], memoryview]:
    raw = values.tobytes()
    tensor = {
        "name": "x",
        "shape": list(values.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], **further}).encode()
    return {"inference-header-content-length": str(len(head))}, memoryview(head + raw)


async def test_json_in_json_out() -> None:
    engine = FakeEngine()
    reply = await door_to(engine).answer(Target("scale"), {}, oip_json(id="mine"))
    assert (reply.status, reply.content_type, reply.headers) == (200, "application/json", ())
    assert json.loads(whole(reply)) == {
        "model_name": "scale",
        "model_version": "3",
        "id": "mine",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [2.0, 5.0]}],
    }
    (request,) = engine.requests
    assert (request.model, request.version, request.id) == ("scale", None, "mine")
    np.testing.assert_array_equal(request.inputs["x"], np.array([1, 2.5], "<f4"), strict=True)
    assert engine.refusals == []


async def test_binary_in_binary_out() -> None:
    values = np.array([1.0, 2.0, 3.0], np.float32)
    headers, body = oip_binary(values, parameters={"binary_data_output": True})
    reply = await door_to(FakeEngine()).answer(Target("scale"), headers, body)
    assert (reply.status, reply.content_type) == (200, "application/octet-stream")
    ((name, length),) = reply.headers
    assert name == "inference-header-content-length"
    answer = whole(reply)
    (output,) = json.loads(answer[: int(length)])["outputs"]
    assert output["parameters"] == {"binary_data_size": 12}
    np.testing.assert_array_equal(np.frombuffer(answer[int(length) :], "<f4"), values * 2)


async def test_the_version_of_the_path_and_the_wanted_outputs_reach_the_engine() -> None:
    engine = FakeEngine()
    body = oip_json(outputs=[{"name": "y"}])
    reply = await door_to(engine).answer(Target("scale", "3"), {}, body)
    assert reply.status == 200
    (request,) = engine.requests
    assert (request.version, request.outputs) == ("3", ("y",))


BROKEN_OIP = {
    "unknown model": (Target("cat"), {}, oip_json(), Code.NOT_FOUND),
    "no JSON": (Target("scale"), {}, memoryview(b"{"), Code.MALFORMED_REQUEST),
    "no inputs": (Target("scale"), {}, memoryview(b"{}"), Code.INVALID_INPUT),
    "header length": (
        Target("scale"),
        {"inference-header-content-length": "-1"},
        oip_json(),
        Code.MALFORMED_REQUEST,
    ),
    "header length beyond the body": (
        Target("scale"),
        {"inference-header-content-length": "9999"},
        oip_json(),
        Code.MALFORMED_REQUEST,
    ),
    "unknown output": (
        Target("scale"),
        {},
        oip_json(outputs=[{"name": "z"}]),
        Code.INVALID_INPUT,
    ),
}


@pytest.mark.parametrize(("target", "headers", "body", "code"), BROKEN_OIP.values(), ids=BROKEN_OIP)
async def test_what_cannot_be_decoded_is_refused_and_counted_once(
    target: Target, headers: dict[str, str], body: memoryview, code: Code
) -> None:
    engine = FakeEngine()
    reply = await door_to(engine).answer(target, headers | {"x-request-id": "r-1"}, body)
    said = json.loads(whole(reply))
    assert (reply.status, reply.content_type) == (http_status(code), "application/json")
    assert set(said) == {"error", "code", "request_id"}
    assert (said["code"], said["request_id"]) == (str(code), "r-1")
    assert said["error"]
    assert engine.requests == []
    assert engine.refusals == [(target.model, code)]


ENGINE_ERRORS = [
    InvalidRequest("input 'x' is missing"),
    NotFound("version '9' of model 'scale' is not served"),
    Unavailable("the server is shutting down", 1.0),
    DeadlineExceeded("too late"),
    ModelFailed("model 'scale' raised ValueError"),
    PeltonError("a bug"),
]


@pytest.mark.parametrize("error", ENGINE_ERRORS, ids=lambda error: type(error).__name__)
async def test_what_the_engine_refuses_is_told_and_not_counted_again(error) -> None:
    engine = FakeEngine(outputs=error)
    reply = await door_to(engine).answer(Target("scale"), {"x-request-id": "r"}, oip_json())
    assert reply.status == http_status(error.code)
    assert json.loads(whole(reply)) == {
        "error": error.message,
        "code": str(error.code),
        "request_id": "r",
    }
    assert reply.headers == ((("retry-after", "1"),) if reply.status == 503 else ())
    assert engine.refusals == []


async def test_an_output_that_the_protocol_cannot_carry_is_the_models_failure() -> None:
    engine = FakeEngine(outputs=lambda inputs: {"y": object()})
    reply = await door_to(engine).answer(Target("scale"), {}, oip_json())
    assert (reply.status, json.loads(whole(reply))["code"]) == (500, "model_failed")


# -- the users' endpoint -------------------------------------------------------------------------

FORMATS = {
    "pickle": ("application/octet-stream", lambda value: pickle.dumps(value, 5), pickle.loads),
    "json": (
        "application/json",
        lambda value: json.dumps(value, default=np.ndarray.tolist).encode(),
        json.loads,
    ),
    "msgpack": (
        "application/msgpack",
        lambda value: msgpack.packb(value, default=msgpack_numpy.encode),
        lambda raw: msgpack.unpackb(raw, object_hook=msgpack_numpy.decode),
    ),
}
each_format = pytest.mark.parametrize(
    ("content_type", "dumps", "loads"), FORMATS.values(), ids=FORMATS
)


async def ask(
    engine: FakeEngine,
    content_type: str,
    body: bytes,
    query: str = "model=scale",
    default: str | None = None,
    **headers: str,
) -> Reply:
    told = {"content-type": content_type} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return await door_to(engine, default).answer(Target(None, None, query), told, memoryview(body))


@each_format
@pytest.mark.parametrize("bare", [False, True], ids=["dict", "bare"])
async def test_an_array_is_answered_in_its_own_format(content_type, dumps, loads, bare) -> None:
    values = np.array([1.0, 2.5], np.float32)
    reply = await ask(FakeEngine(), content_type, dumps(values if bare else {"x": values}))
    assert (reply.status, reply.content_type, reply.headers) == (200, content_type, ())
    said = loads(whole(reply))
    assert set(said) == {"status", "output"}
    assert said["status"] == "ok"
    np.testing.assert_array_equal(said["output"], [2.0, 5.0])
    if content_type != "application/json":
        assert said["output"].dtype == np.float32


@each_format
async def test_an_object_model_gets_what_was_sent_and_may_answer_anything(
    content_type, dumps, loads
) -> None:
    engine = FakeEngine(outputs=lambda inputs: {"plan": ["a", None, 1.5], "n": len(inputs)})
    sent = {"instruction": "öffne", "state": [1, 2], "none": None}
    reply = await ask(engine, content_type, dumps(sent), "model=robot")
    assert engine.requests[0].inputs == sent
    assert loads(whole(reply)) == {
        "status": "ok",
        "output": {"plan": ["a", None, 1.5], "n": 3},
    }


@each_format
@pytest.mark.parametrize("error", ENGINE_ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_behind_the_decoding_is_told_in_the_requests_format(
    content_type, dumps, loads, error
) -> None:
    engine = FakeEngine(outputs=error)
    reply = await ask(engine, content_type, dumps({"x": [1.0]}), x_request_id="r-2")
    assert (reply.status, reply.content_type) == (http_status(error.code), content_type)
    assert loads(whole(reply)) == {
        "status": "error",
        "message": error.message,
        "error": error.message,
        "code": str(error.code),
        "request_id": "r-2",
    }
    assert reply.headers == ((("retry-after", "1"),) if reply.status == 503 else ())
    assert engine.refusals == []


@each_format
@pytest.mark.parametrize(
    ("value", "query", "message", "counted"),
    [
        ({"z": [1.0]}, "model=scale", "model 'scale' has no input 'z'; it takes x", "scale"),
        ({"x": ["text"]}, "model=scale", "input 'x'", "scale"),
        ([1], "model=robot", "model 'robot' takes a dict by name, not a list", "robot"),
        ({"x": [1.0]}, "model=cat", "unknown model 'cat'", "cat"),
    ],
    ids=["input", "element", "no dict", "model"],
)
async def test_what_does_not_fit_the_model_is_counted_under_its_name(
    content_type, dumps, loads, value, query, message, counted
) -> None:
    engine = FakeEngine()
    reply = await ask(engine, content_type, dumps(value), query)
    said = loads(whole(reply))
    assert said["status"] == "error"
    assert said["message"].startswith(message)
    assert reply.status == http_status(Code(said["code"]))
    assert engine.refusals == [(counted, Code(said["code"]))]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/octet-stream", b"\x80\x05cos\nsystem\n.", None),
        ("application/octet-stream", b"", None),
        ("application/json", b'{"x": NaN}', Code.MALFORMED_REQUEST),
        ("application/json", b"", Code.MALFORMED_REQUEST),
        ("application/msgpack", b"\xc1", None),
        ("text/plain", b"[1]", Code.UNSUPPORTED_MEDIA),
        ("", b"[1]", Code.UNSUPPORTED_MEDIA),
    ],
)
async def test_a_body_that_cannot_be_decoded_gets_the_json_body_of_errors(
    content_type: str, body: bytes, code: Code | None
) -> None:
    engine = FakeEngine()
    reply = await ask(engine, content_type, body, x_request_id="r-3")
    said = json.loads(whole(reply))
    assert reply.content_type == "application/json"
    assert set(said) == {"error", "code", "request_id"}
    assert said["request_id"] == "r-3"
    assert said["code"] == str(code or said["code"])
    assert reply.status in (400, 415)
    assert reply.status == http_status(Code(said["code"]))
    assert engine.refusals == [("", Code(said["code"]))]
    assert engine.requests == []


async def test_a_request_without_content_type_is_told_what_to_send() -> None:
    reply = await door_to(FakeEngine()).answer(Target(None), {}, memoryview(b"[1]"))
    assert reply.status == 415
    assert "application/json" in json.loads(whole(reply))["error"]


@pytest.mark.parametrize(
    ("query", "headers", "default", "models", "chosen"),
    [
        ("model=scale", {}, None, (SCALE, ROBOT), "scale"),
        ("a=b&model=scale&c", {}, None, (SCALE, ROBOT), "scale"),
        ("model=%73cale", {}, None, (SCALE, ROBOT), "scale"),
        ("model=scale&model=robot", {}, None, (SCALE, ROBOT), "scale"),
        ("", {"x_pelton_model": "scale"}, None, (SCALE, ROBOT), "scale"),
        ("model=scale", {"x_pelton_model": "robot"}, "robot", (SCALE, ROBOT), "scale"),
        ("", {"x_pelton_model": "scale"}, "robot", (SCALE, ROBOT), "scale"),
        ("model=", {}, "scale", (SCALE, ROBOT), "scale"),
        ("", {}, "scale", (SCALE, ROBOT), "scale"),
        ("", {}, None, (SCALE,), "scale"),
        ("mode=robot", {}, None, (SCALE,), "scale"),
    ],
)
async def test_how_the_model_is_said(query, headers, default, models, chosen: str) -> None:
    engine = FakeEngine(*models)
    reply = await ask(engine, "application/json", b"[1]", query, default, **headers)
    assert reply.status == 200
    assert [request.model for request in engine.requests] == [chosen]


async def test_no_model_said_and_several_served() -> None:
    engine = FakeEngine(SCALE, ROBOT)
    reply = await ask(engine, "application/json", b"[1]", "")
    said = json.loads(whole(reply))
    assert (reply.status, said["code"]) == (400, "invalid_input")
    assert said["message"].endswith("served are: robot, scale")


async def test_a_request_that_names_no_model_is_counted() -> None:
    engine = FakeEngine(SCALE, ROBOT)
    await ask(engine, "application/json", b"[1]", "")
    assert engine.refusals == [("", Code.INVALID_INPUT)]


@each_format
async def test_an_output_that_cannot_be_sent_is_the_models_failure(
    content_type, dumps, loads
) -> None:
    engine = FakeEngine(outputs=lambda inputs: {"y": object()})
    reply = await ask(engine, content_type, dumps({"x": [1.0]}))
    said = json.loads(whole(reply))
    assert (reply.status, said["code"]) == (500, "model_failed")
    assert said["error"].startswith("the model's output cannot be sent: ")
    assert " at 0x" not in said["error"]


# -- what goes wrong inside ----------------------------------------------------------------------


@pytest.mark.parametrize("target", [Target("scale"), Target(None, None, "model=scale")])
async def test_a_bug_is_answered_and_logged_and_tells_the_caller_nothing(target, caplog) -> None:
    engine = FakeEngine(outputs=ZeroDivisionError("secret"))
    with caplog.at_level(logging.ERROR, "pelton.inference"):
        reply = await door_to(engine).answer(
            target,
            {"content-type": "application/json", "x-request-id": "bug-1"},
            oip_json() if target.model else memoryview(b"[1]"),
        )
    assert reply.status == 500
    assert json.loads(whole(reply)) == {
        "error": "the server failed; its log tells more",
        "code": "internal",
        "request_id": "bug-1",
    }
    (record,) = [record for record in caplog.records if "request bug-1" in record.getMessage()]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("target", [Target("scale"), Target(None, None, "model=scale")])
async def test_a_models_failure_is_logged_under_the_id_that_the_caller_got(target, caplog) -> None:
    failure = ModelFailed("model 'scale' raised ValueError")
    failure.__cause__ = ValueError("only for the log")
    body = oip_json() if target.model else memoryview(b"[1]")
    with caplog.at_level(logging.INFO, "pelton.inference"):
        reply = await door_to(FakeEngine(outputs=failure)).answer(
            target, {"content-type": "application/json"}, body
        )
    said = whole(reply)
    assert b"only for the log" not in said
    (record,) = caplog.records
    told = json.loads(said)["request_id"]
    assert record.getMessage() == f"request {told}: model 'scale' raised ValueError"
    assert "ValueError: only for the log" in caplog.text


async def test_a_callers_fault_is_not_logged(caplog) -> None:
    with caplog.at_level(logging.INFO, "pelton.inference"):
        await door_to(FakeEngine()).answer(Target("scale"), {}, memoryview(b"{"))
        await ask(FakeEngine(), "application/json", b"[1]", "model=cat")
    assert caplog.records == []


async def test_a_forged_request_id_is_not_taken_into_the_log(caplog) -> None:
    headers = {"x-request-id": "a\nERROR forged"}
    with caplog.at_level(logging.INFO, "pelton.inference"):
        reply = await door_to(FakeEngine(outputs=PeltonError("bug"))).answer(
            Target("scale"), headers, oip_json()
        )
    assert "forged" not in caplog.text
    assert "forged" not in json.loads(whole(reply))["request_id"]


async def test_cancelling_is_not_answered() -> None:
    with pytest.raises(asyncio.CancelledError):
        await door_to(FakeEngine(outputs=asyncio.CancelledError())).answer(
            Target("scale"), {}, oip_json()
        )


# -- what is done on the event loop, and what is not ----------------------------------------------


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
