"""An inference door over an engine that a test writes down, and bodies to send through it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from pelton.clock import Clock
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
from pelton.servers.inference import InferenceDoor
from pelton.servers.inference_call import Target, read_call
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply
from pelton.servers.shared_regions import SharedRegions
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.limits import Limits

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
        self.answering: ModelMetadata | None = None
        self.notes: tuple[tuple[str, str], ...] = ()

    async def infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        if isinstance(self._outputs, BaseException):
            raise self._outputs
        model = self.metadata(request.model)
        outputs = self._outputs(request.inputs)
        answering = self.answering or model
        response = InferResponse(answering.name, answering.version, outputs, request.id)
        response.metadata, response.notes = answering, self.notes
        return response

    def refused(self, model: str, code: Code) -> None:
        self.refusals.append((model, code))

    def versions(self, name: str) -> list[str]:
        return [self.metadata(name).version]

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        if name not in self._models:
            raise NotFound(f"unknown model {name!r}")
        return self._models[name]

    def names(self) -> list[str]:
        return sorted(self._models)


HERE = Origin(100.0, same_user=False)


class Door:
    """A door whose requests arrive at second 100, from another user, unless they say otherwise."""

    def __init__(self, door: InferenceDoor) -> None:
        self._door = door

    async def answer(
        self,
        target: Target,
        headers: dict[str, str],
        body: memoryview,
        origin: Origin = HERE,
    ) -> Reply:
        return await self._door.answer(read_call(target, headers), body, origin)


def door_to(
    engine: FakeEngine,
    default: str | None = None,
    regions: SharedRegions | None = None,
    clock: Clock = lambda: 100.0,
) -> Door:
    return Door(
        InferenceDoor(engine, Limits(), default, regions or SharedRegions(for_all=False), clock)
    )


def whole(reply: Reply) -> bytes:
    """Return the body, having checked that the size which will be announced is its size."""
    body = b"".join(bytes(chunk) for chunk in reply.chunks)
    assert reply.size == len(body)
    return body


ENGINE_ERRORS = [
    InvalidRequest("input 'x' is missing"),
    NotFound("version '9' of model 'scale' is not served"),
    Unavailable("the server is shutting down", 1.0),
    DeadlineExceeded("too late"),
    ModelFailed("model 'scale' raised ValueError"),
    PeltonError("a bug"),
]


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
