"""`POST /infer`: three formats, one behaviour."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.errors import Code
from pelton.servers.inference_call import Target
from pelton.wire.status import http_status
from servers.fake_engine import (
    ENGINE_ERRORS,
    ROBOT,
    SCALE,
    FakeEngine,
    ask,
    door_to,
    each_format,
    whole,
)


@each_format
@pytest.mark.parametrize("bare", [False, True], ids=["dict", "bare"])
async def test_an_array_is_answered_in_its_own_format(content_type, dumps, loads, bare) -> None:
    values = np.array([1.0, 2.5], np.float32)
    reply = await ask(FakeEngine(), content_type, dumps(values if bare else {"x": values}))
    assert (reply.status, reply.content_type) == (200, content_type)
    assert reply.headers == (("x-pelton-model", "scale"), ("x-pelton-version", "3"))
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
