"""What the door tells the engine of whom a request is for, and the caller of who answered."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pelton.access.caller import Caller
from pelton.servers.inference_call import Target
from pelton.servers.origin import Origin
from pelton.specs import TensorSpec
from servers.fake_engine import SCALE, FakeEngine, door_to, oip_binary, oip_json, whole

OIP = Target("scale")
USERS = Target(None, None, "model=scale")
both_endpoints = pytest.mark.parametrize("target", [OIP, USERS], ids=["oip", "users"])

CANARY = dataclasses.replace(SCALE, version="4")


def body_for(target: Target) -> memoryview:
    return oip_json() if target.model else memoryview(b"[1, 2.5]")


async def ask(engine: FakeEngine, target: Target, origin: Origin | None = None, **headers: str):
    told = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    sent = (target, told, body_for(target))
    return await door_to(engine).answer(*sent, *([] if origin is None else [origin]))


# -- whom it is for ------------------------------------------------------------------------------


@both_endpoints
@pytest.mark.parametrize("key", ["robot-7", "Zoë 7", ""])
async def test_the_key_reaches_the_engine_as_text(target, key: str) -> None:
    engine = FakeEngine()
    sent = key.encode().decode("latin-1")  # as a header is read
    assert (await ask(engine, target, x_pelton_key=sent)).status == 200
    assert engine.requests[0].key == key


@both_endpoints
async def test_without_a_key_or_a_caller_both_are_empty(target) -> None:
    engine = FakeEngine()
    await ask(engine, target)
    assert (engine.requests[0].key, engine.requests[0].tenant) == ("", "")


@both_endpoints
async def test_a_key_that_is_no_text_is_refused(target) -> None:
    engine = FakeEngine()
    reply = await ask(engine, target, x_pelton_key="\xff\xfe")
    assert (reply.status, engine.requests) == (400, [])
    assert json.loads(whole(reply))["error"] == "the header X-Pelton-Key is no UTF-8"


@both_endpoints
async def test_the_tenant_is_that_of_the_caller(target) -> None:
    engine = FakeEngine()
    caller = Caller("k1", frozenset(), tenant="k1")
    await ask(engine, target, Origin(100.0, False, "10.0.0.1", caller))
    assert engine.requests[0].tenant == "k1"


# -- who answered --------------------------------------------------------------------------------


async def test_a_request_keeps_the_name_that_was_asked_for() -> None:
    """A route may lead to a model of another name, by whose metadata the body is read."""
    engine = FakeEngine()
    engine.metadata = lambda name, version=None: SCALE
    for target in (Target("daily"), Target(None, None, "model=daily")):
        assert (await ask(engine, target)).status == 200
    assert [request.model for request in engine.requests] == ["daily", "daily"]


async def test_the_version_that_answered_is_told_not_the_one_it_was_read_for() -> None:
    engine = FakeEngine()
    engine.answering = CANARY
    said = json.loads(whole(await ask(engine, OIP)))
    assert (said["model_name"], said["model_version"]) == ("scale", "4")
    reply = await ask(engine, USERS)
    assert reply.headers == (("x-pelton-model", "scale"), ("x-pelton-version", "4"))


async def test_outputs_are_written_as_the_version_that_answered_declares_them() -> None:
    engine = FakeEngine()
    engine.answering = dataclasses.replace(CANARY, outputs=(TensorSpec("y", "BF16", (-1,)),))
    told, body = oip_binary(np.ones(2, np.float32), parameters={"binary_data_output": True})
    for version in ("FP32", "BF16", "BF16", "FP32"):
        engine.answering = dataclasses.replace(
            engine.answering, outputs=(TensorSpec("y", version, (-1,)),)
        )
        reply = await door_to(engine).answer(OIP, told, body)
        length = int(dict(reply.headers)["inference-header-content-length"])
        (output,) = json.loads(whole(reply)[:length])["outputs"]
        assert output["datatype"] == version


@both_endpoints
async def test_what_the_engine_adds_is_sent_as_headers(target) -> None:
    engine = FakeEngine()
    engine.notes = (("x-pelton-cache", "hit"), ("x-pelton-choice", "route=scale"))
    headers = (await ask(engine, target, x_pelton_timing="1")).headers
    assert [name for name, _ in headers if name != "x-pelton-timing"] == [
        *(["x-pelton-model", "x-pelton-version"] if target is USERS else []),
        "x-pelton-cache",
        "x-pelton-choice",
    ]
    assert dict(headers)["x-pelton-cache"] == "hit"


async def test_a_refusal_names_no_version() -> None:
    reply = await ask(FakeEngine(), Target(None, None, "model=cat"))
    assert (reply.status, reply.headers) == (404, ())
