"""Deadlines, timing, digests and names in the log, at both endpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import pytest

from client_memory import client_memory
from pelton.errors import Code, DeadlineExceeded, Unavailable
from pelton.messages import InferRequest, InferResponse, Timing
from pelton.servers.inference_call import Target
from pelton.servers.origin import Origin
from pelton.servers.replies import Reply
from pelton.servers.shared_regions import SharedRegions
from pelton.wire.timing import read_timing, read_timing_header
from servers.fake_engine import FakeEngine, door_to, oip_binary, oip_json, whole

OIP = Target("scale")
USERS = Target(None, None, "model=scale")
both_endpoints = pytest.mark.parametrize("target", [OIP, USERS], ids=["oip", "users"])


def body_for(target: Target, **further: Any) -> memoryview:
    return oip_json(**further) if target.model else memoryview(b"[1, 2.5]")


class TickingClock:
    """Moves on by so many seconds each time it is read; counts how often that is."""

    def __init__(self, start_s: float, tick_s: float) -> None:
        self.now_s, self._tick_s, self.reads = start_s, tick_s, 0

    def __call__(self) -> float:
        self.reads += 1
        now_s, self.now_s = self.now_s, self.now_s + self._tick_s
        return now_s


class TimedEngine(FakeEngine):
    """Says that it took a while, and may tell a digest."""

    timing = Timing(0.0, 0.001, 0.002, 0.003, 0.0)
    digest = ""

    async def infer(self, request: InferRequest) -> InferResponse:
        response = await super().infer(request)
        response.timing, response.digest = self.timing, self.digest
        return response


async def ask(
    engine: FakeEngine, target: Target, headers: dict[str, str], clock=lambda: 100.0, **further: Any
) -> Reply:
    told = {"content-type": "application/json"} | headers
    return await door_to(engine, clock=clock).answer(target, told, body_for(target, **further))


def beside_the_version(reply: Reply) -> list[tuple[str, str]]:
    """Return the headers but those in which `/infer` names who answered."""
    named = ("x-pelton-model", "x-pelton-version")
    return [header for header in reply.headers if header[0] not in named]


def code_of(reply: Reply) -> str:
    return str(json.loads(whole(reply))["code"])


# -- deadlines -----------------------------------------------------------------------------------


@both_endpoints
@pytest.mark.parametrize(
    ("told", "deadline_s"),
    [("250", 100.25), ("0.5", 100.0005), ("1", 100.001), ("86400000", 86500.0)],
)
async def test_a_header_sets_the_deadline_from_the_arrival(target, told, deadline_s) -> None:
    engine = FakeEngine()
    reply = await ask(engine, target, {"x-request-timeout-ms": told})
    assert reply.status == 200
    assert engine.requests[0].deadline_s == pytest.approx(deadline_s, abs=1e-9)


@both_endpoints
async def test_without_one_there_is_no_deadline_and_no_priority(target) -> None:
    engine = FakeEngine()
    await ask(engine, target, {})
    assert (engine.requests[0].deadline_s, engine.requests[0].priority) == (math.inf, 0)


@both_endpoints
@pytest.mark.parametrize(
    "told",
    [
        "0",
        "0.0",
        "-1",
        "+5",
        "1e3",
        "",
        "nan",
        "inf",
        "5s",
        " 5",
        "1,5",
        "5, 6",
        "9" * 13,
        "\u0665",
    ],
)
async def test_a_header_that_is_no_positive_number_is_refused(target, told: str) -> None:
    engine = FakeEngine()
    reply = await ask(engine, target, {"x-request-timeout-ms": told})
    assert (reply.status, code_of(reply)) == (400, "invalid_input")
    assert "positive number of milliseconds" in whole(reply).decode()
    assert engine.requests == []
    assert engine.refusals == [(target.model or "", Code.INVALID_INPUT)]


@pytest.mark.parametrize(
    ("header", "parameter_us", "deadline_s"),
    [("250", 300_000, 100.25), ("300", 250_000, 100.25), ("300", 0, 100.3), (None, 5, 100.000005)],
)
async def test_the_earlier_of_two_deadlines_wins(header, parameter_us, deadline_s) -> None:
    engine = FakeEngine()
    headers = {} if header is None else {"x-request-timeout-ms": header}
    await ask(engine, OIP, headers, parameters={"timeout": parameter_us, "priority": 3})
    assert engine.requests[0].deadline_s == pytest.approx(deadline_s, abs=1e-9)
    assert engine.requests[0].priority == 3


@both_endpoints
async def test_what_is_late_already_is_not_even_decoded(target) -> None:
    engine = FakeEngine()
    door = door_to(engine, clock=lambda: 100.25)
    headers = {"x-request-timeout-ms": "250", "content-type": "application/json"}
    reply = await door.answer(target, headers, memoryview(b"{"))
    assert (reply.status, code_of(reply)) == (504, "deadline_exceeded")
    assert engine.requests == []
    assert engine.refusals == [(target.model or "", Code.DEADLINE_EXCEEDED)]


@both_endpoints
async def test_what_the_engine_says_of_load_and_lateness(target) -> None:
    reply = await ask(FakeEngine(outputs=DeadlineExceeded("too late")), target, {})
    assert (reply.status, code_of(reply), reply.headers) == (504, "deadline_exceeded", ())
    reply = await ask(FakeEngine(outputs=Unavailable("full", 0.02)), target, {})
    assert (reply.status, code_of(reply)) == (503, "unavailable")
    assert reply.headers == (("retry-after", "1"),)


# -- timing --------------------------------------------------------------------------------------


@both_endpoints
async def test_the_time_is_told_in_a_header_to_who_asks_there(target) -> None:
    clock = TickingClock(100.5, 1.0)
    reply = await ask(TimedEngine(), target, {"x-pelton-timing": "1"}, clock)
    told = dict(reply.headers)["x-pelton-timing"]
    # Arrived at 100, decoded at 100.5; the engine says 6 ms; written at 101.5.
    expected = "receive=500000, queue=1000, batch_wait=2000, compute=3000, encode=994000"
    assert told == expected
    said = json.loads(whole(reply))
    assert "parameters" not in said


async def test_the_time_is_told_in_parameters_to_who_asks_there() -> None:
    clock = TickingClock(100.5, 1.0)
    reply = await ask(TimedEngine(), OIP, {}, clock, parameters={"timing": True})
    assert reply.headers == ()
    assert json.loads(whole(reply))["parameters"] == {
        "receive_us": 500_000,
        "queue_us": 1_000,
        "batch_wait_us": 2_000,
        "compute_us": 3_000,
        "encode_us": 994_000,
    }


async def test_the_parts_add_up_both_ways() -> None:
    clock = TickingClock(100.5, 1.0)
    reply = await ask(
        TimedEngine(), OIP, {"x-pelton-timing": "1"}, clock, parameters={"timing": True}
    )
    in_header = read_timing_header(dict(reply.headers)["x-pelton-timing"])
    in_body = read_timing(json.loads(whole(reply))["parameters"])
    assert in_header is not None
    assert in_body is not None
    for timing, total_s in ((in_body, 1.5), (in_header, 2.5)):
        parts = (timing.receive_s, timing.queue_s, timing.batch_wait_s, timing.compute_s)
        assert sum(parts) + timing.encode_s == pytest.approx(total_s, abs=1e-5)


async def test_timing_stands_beside_the_length_of_the_header() -> None:
    values = np.ones(3, np.float32)
    headers, body = oip_binary(values, parameters={"binary_data_output": True})
    reply = await door_to(TimedEngine()).answer(OIP, headers | {"x-pelton-timing": "1"}, body)
    names = [name for name, _ in reply.headers]
    assert names == ["inference-header-content-length", "x-pelton-timing"]


@both_endpoints
@pytest.mark.parametrize("headers", [{}, {"x-pelton-timing": "0"}, {"x-pelton-timing": ""}])
async def test_who_does_not_ask_is_not_told_and_pays_nothing(target, headers) -> None:
    clock = TickingClock(100.0, 1.0)
    reply = await ask(TimedEngine(), target, headers, clock, parameters={"timing": False})
    assert beside_the_version(reply) == []
    assert "parameters" not in json.loads(whole(reply))
    assert clock.reads == 0


# -- digest, and names in the log ----------------------------------------------------------------


@both_endpoints
async def test_a_digest_is_told_in_every_format(target) -> None:
    engine = TimedEngine()
    engine.digest = "sha256:" + "ab" * 32
    reply = await ask(engine, target, {})
    assert beside_the_version(reply) == [("x-pelton-digest", engine.digest)]
    if target.model:
        assert json.loads(whole(reply))["parameters"] == {"digest": engine.digest}
    timed = await ask(engine, target, {"x-pelton-timing": "1"})
    names = [name for name, _ in beside_the_version(timed)]
    assert names == ["x-pelton-digest", "x-pelton-timing"]


@both_endpoints
async def test_every_request_has_the_name_in_the_log_that_its_caller_gave(target) -> None:
    engine = FakeEngine()
    await ask(engine, target, {"x-request-id": "job-7"})
    await ask(engine, target, {"x-request-id": "for\nged"})
    await ask(engine, target, {})
    mine, forged, none = [request.log_id for request in engine.requests]
    assert mine == "job-7"
    assert "forged" not in forged
    assert len({mine, forged, none}) == 3
    assert all((mine, forged, none))


@both_endpoints
async def test_an_errors_id_is_that_of_the_log(target) -> None:
    engine = FakeEngine(outputs=DeadlineExceeded("too late"))
    reply = await ask(engine, target, {})
    assert json.loads(whole(reply))["request_id"] == engine.requests[0].log_id


# -- shared memory -------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with client_memory(4096) as made:
        yield made


def in_region(offset: int = 0, output: int | None = None) -> memoryview:
    where = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    tensor = {
        "name": "x",
        "shape": [2],
        "datatype": "FP32",
        "parameters": where | {"shared_memory_offset": offset},
    }
    header: dict[str, Any] = {"inputs": [tensor]}
    if output is not None:
        header["outputs"] = [{"name": "y", "parameters": where | {"shared_memory_offset": output}}]
    return memoryview(json.dumps(header).encode())


@pytest.mark.parametrize(
    ("for_all", "same_user", "may"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
async def test_who_may_names_regions(memory, for_all, same_user, may) -> None:
    regions = SharedRegions(for_all)
    regions.register("r", memory.name, 0, 4096)
    memory.buf[:8] = np.array([1.0, 2.5], "<f4").tobytes()
    engine = FakeEngine()
    origin = Origin(100.0, same_user)
    body = in_region(output=64)
    reply = await door_to(engine, regions=regions).answer(OIP, {}, body, origin)
    if not may:
        assert (reply.status, code_of(reply)) == (400, "invalid_input")
        assert "--allow-shared-memory" in whole(reply).decode()
        assert engine.requests == []
        return
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert np.frombuffer(bytes(memory.buf[64:72]), "<f4").tolist() == [2.0, 5.0]
    (output,) = json.loads(whole(reply))["outputs"]
    assert "data" not in output
    array = engine.requests[0].inputs["x"]
    memory.buf[:4] = np.array([7.0], "<f4").tobytes()
    assert array.tolist() == [7.0, 2.5]


async def test_a_region_that_is_unregistered_meanwhile_is_still_written(memory) -> None:
    regions = SharedRegions(for_all=True)
    regions.register("r", memory.name, 0, 4096)

    def outputs(inputs: Any) -> dict[str, Any]:
        regions.unregister("r")
        return {"y": inputs["x"] + 1}

    door = door_to(FakeEngine(outputs=outputs), regions=regions)
    first = await door.answer(OIP, {}, in_region(output=64))
    assert first.status == 200
    assert np.frombuffer(bytes(memory.buf[64:72]), "<f4").tolist() == [1.0, 1.0]
    second = await door.answer(OIP, {}, in_region(output=64))
    assert second.status == 400
    assert "no shared memory region 'r'" in whole(second).decode()


async def test_an_output_without_room_tells_the_sizes(memory) -> None:
    regions = SharedRegions(for_all=True)
    regions.register("r", memory.name, 0, 4096)
    engine = FakeEngine(outputs=lambda inputs: {"y": np.zeros(3, np.float32)})
    reply = await door_to(engine, regions=regions).answer(OIP, {}, in_region(output=64))
    assert (reply.status, code_of(reply)) == (400, "invalid_input")
    assert "takes 12 bytes, but its place" in whole(reply).decode()
    assert not any(memory.buf)
