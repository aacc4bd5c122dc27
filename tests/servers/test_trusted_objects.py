"""Signed objects at the inference door: nothing is asked of the engine before they are admitted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.access.caller import ANONYMOUS, Caller
from pelton.errors import Code, DeadlineExceeded
from pelton.records import Scope
from pelton.servers.inference import InferenceDoor
from pelton.servers.inference_call import inference_target, read_call
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply
from pelton.servers.shared_regions import SharedRegions
from pelton.trusted.keys_file import KeysFile
from pelton.trusted.signing import HEADER, sign
from pelton.trusted.verification import TrustedGate
from pelton.wire import pickle_frame, pickled
from pelton.wire.limits import Limits
from servers.fake_engine import FakeEngine, whole

SECRET = b"s" * 32
NOW_S = 1_789_000_000.0
ROBOT = Caller("key7", frozenset({Scope.INFER, Scope.PICKLE_UNSAFE}), "key7")
TARGET = "/infer?model=robot"


class Unknown:
    """Is nothing that the safe reader takes."""


BODY = pickle.dumps({"x": Unknown()})


class Served:
    """A door, and what it asked of the engine."""

    def __init__(self, folder: Path, on: bool = True, **engine: Any) -> None:
        file = folder / "keys.toml"
        file.touch(mode=0o600)
        file.write_text(f'[robot-7]\nclient = "key7"\nhmac_sha256 = "{SECRET.hex()}"\n')
        gate = TrustedGate(KeysFile(file) if on else None, NOW_S - 3600, lambda: NOW_S)
        self.engine = FakeEngine(**({"outputs": lambda inputs: {"y": 5}} | engine))
        regions = SharedRegions(for_all=False)
        clock = lambda: 100.0  # noqa: E731
        self.door = InferenceDoor(self.engine, Limits(), None, regions, clock, gate)

    async def ask(
        self, body: bytes = BODY, target: str = TARGET, caller: Caller = ROBOT, **changes: str
    ) -> Reply:
        headers = sign("robot-7", SECRET, "POST", target, "robot", [body], NOW_S)
        told = {name.lower(): value for name, value in headers.items()}
        told["content-type"] = "application/octet-stream"
        told |= {name.replace("_", "-"): value for name, value in changes.items()}
        path, _, query = target.partition("?")
        found = inference_target(path, query)
        assert found is not None
        call = read_call(found, told, target)
        origin = Origin(99.5, same_user=False, caller=caller, route="/infer")
        return await self.door.answer(call, memoryview(body), origin)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


async def test_an_admitted_object_is_handed_on_as_it_came(served: Served) -> None:
    reply = await served.ask(x_pelton_key="user", x_request_id="r-9", x_request_timeout_ms="1500")
    assert reply.status == 200
    assert pickled.decode(whole(reply), Limits())[0] == {"status": "ok", "output": 5}
    (request,) = served.engine.requests
    assert (request.model, request.inputs, request.signed) == ("robot", {}, (BODY,))
    assert (request.key, request.tenant, request.log_id) == ("user", "key7", "r-9")
    assert request.deadline_s == 101.0
    assert served.engine.refusals == []


async def test_a_frame_is_taken_apart_and_answered_with_one(served: Served) -> None:
    array = np.arange(1000)
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps({"x": array}, 5, buffer_callback=buffers.append)
    body = b"".join(pickle_frame.join([stream], [each.raw() for each in buffers]))
    reply = await served.ask(body)
    assert whole(reply).startswith(pickle_frame.MAGIC)
    (request,) = served.engine.requests
    assert request.signed == (stream, array.tobytes())


async def test_the_answer_names_its_version_and_tells_its_time(served: Served) -> None:
    reply = await served.ask(x_pelton_timing="1")
    assert (
        dict(reply.headers).items() >= {"x-pelton-model": "robot", "x-pelton-version": "1"}.items()
    )
    assert "x-pelton-timing" in dict(reply.headers)


async def test_what_fails_later_is_told_in_the_callers_format(tmp_path: Path) -> None:
    served = Served(tmp_path, outputs=DeadlineExceeded("too late"))
    reply = await served.ask(x_request_id="r-9")
    said, _ = pickled.decode(whole(reply), Limits())
    assert reply.status == 504
    assert said == {
        "status": "error",
        "message": "too late",
        "error": "too late",
        "code": "deadline_exceeded",
        "request_id": "r-9",
    }


REFUSED: dict[str, tuple[dict[str, Any], int, Code]] = {
    "no scope": ({"caller": Caller("key7", frozenset({Scope.INFER}), "key7")}, 403, Code.FORBIDDEN),
    "nobody": ({"caller": ANONYMOUS}, 403, Code.FORBIDDEN),
    "another endpoint": ({"target": "/v2/models/robot/infer"}, 400, Code.INVALID_INPUT),
    "no pickle": ({"content_type": "application/json"}, 415, Code.UNSUPPORTED_MEDIA),
    "no kind": ({"content_type": "image/png"}, 415, Code.UNSUPPORTED_MEDIA),
    "empty": ({HEADER.lower(): ""}, 401, Code.UNAUTHENTICATED),
    "twice": ({HEADER.lower(): "v1, v1"}, 401, Code.UNAUTHENTICATED),
    "another model": ({"target": "/infer?model=words"}, 401, Code.UNAUTHENTICATED),
    "too late": ({"x_request_timeout_ms": "1"}, 504, Code.DEADLINE_EXCEEDED),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_never_reaches_the_engine(served: Served, case: str) -> None:
    changes, status, code = REFUSED[case]
    reply = await served.ask(**changes)
    assert (reply.status, str(code).encode() in whole(reply)) == (status, True)
    assert served.engine.requests == []
    assert [refused for _, refused in served.engine.refusals] == [code]


async def test_no_model_is_guessed_where_there_are_several(served: Served) -> None:
    reply = await served.ask(target="/infer")
    assert (reply.status, served.engine.requests) == (400, [])


async def test_a_broken_frame_is_told_after_its_signature_held(served: Served) -> None:
    reply = await served.ask(pickle_frame.MAGIC + b"rest")
    assert (reply.status, served.engine.requests) == (400, [])
    assert b"the frame ends within its head" in whole(reply)


async def test_a_door_that_was_told_nothing_refuses_all_of_it(tmp_path: Path) -> None:
    served = Served(tmp_path, on=False)
    reply = await served.ask()
    assert (reply.status, served.engine.requests) == (403, [])
    regions = SharedRegions(for_all=False)
    served.door = InferenceDoor(served.engine, Limits(), None, regions)
    assert (await served.ask()).status == 403
    assert served.engine.requests == []
