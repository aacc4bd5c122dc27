"""The inference endpoints: which they are, and the Open Inference Protocol through them."""

from __future__ import annotations

import asyncio
import json
import logging

import numpy as np
import pytest

from pelton.errors import Code, ModelFailed, PeltonError
from pelton.servers.inference_call import Target, inference_target, wants_compression
from pelton.wire.status import http_status
from servers.fake_engine import (
    ENGINE_ERRORS,
    FakeEngine,
    ask,
    door_to,
    oip_binary,
    oip_json,
    whole,
)

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
