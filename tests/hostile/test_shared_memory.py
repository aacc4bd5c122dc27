"""Hostile registrations and places, to a server that takes shared memory from everybody."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from client_memory import client_memory
from hostile.conditions import Conditions, assert_error
from oip_messages import json_body, tensor
from raw_http import RawReply, Wire, get, plain
from support_server import ServerProcess

SIZE = 8192
LARGEST = 2**63 - 1


@pytest.fixture(scope="module")
def sharing(models: Path) -> Iterator[ServerProcess]:
    """A server that takes shared memory from everybody."""
    with ServerProcess(models, "--allow-shared-memory") as server:
        yield server
        assert server.stop() == 0, server.log()
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture(scope="module")
def unharmed(sharing: ServerProcess) -> Iterator[Conditions]:
    """The post-condition of that server."""
    with contextlib.closing(Conditions(sharing)) as conditions:
        yield conditions


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """The client's own object; ones, as floats."""
    with client_memory(SIZE) as made:
        made.buf[:SIZE] = np.ones(SIZE // 4, "<f4").tobytes()
        yield made


@pytest.fixture
def wire(sharing: ServerProcess, unharmed: Conditions) -> Iterator[Wire]:
    """A connection; afterwards every region is forgotten, and the server has to be well."""
    with unharmed.unharmed(), Wire(sharing.port) as opened:
        yield opened
        assert opened.ask(plain("/v2/systemsharedmemory/unregister", b"")).status == 200
        assert opened.ask(get("/v2/systemsharedmemory/status")).json() == []


def register(wire: Wire, said: Any, name: str = "r") -> RawReply:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    path = f"/v2/systemsharedmemory/region/{quote(name, safe='')}/register"
    return wire.ask(plain(path, body, {"Content-Type": "application/json"}))


def infer(wire: Wire, where: dict[str, Any], output: dict[str, Any] | None = None) -> RawReply:
    said = tensor("x", "FP32", [64]) | {"parameters": where}
    more = {} if output is None else {"outputs": [{"name": "y", "parameters": output}]}
    return wire.ask(plain("/v2/models/echo_fp32/infer", json_body(said, **more)))


def place(offset: Any = 0, size: Any = 256, region: Any = "r") -> dict[str, Any]:
    return {
        "shared_memory_region": region,
        "shared_memory_offset": offset,
        "shared_memory_byte_size": size,
    }


# -- registering ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "/../../etc/passwd",
        "/a/b",
        "..",
        "/",
        "",
        "x" * 251,
        "x" * 100_000,
        "a\x00b",
        "/dev/shm/x",
        "\u202e",
        "triton_python_backend_shm_region_1",
        "no-such-object",
        5,
        None,
        ["a"],
    ],
)
def test_keys(wire: Wire, key: Any) -> None:
    assert_error(register(wire, {"key": key, "offset": 0, "byte_size": 64}), 400, 413)


@pytest.mark.parametrize("name", ["x" * 129, "x" * 5000, "a\x00b", "a\nb", "\u202eb", "\x7f"])
def test_names(wire: Wire, memory: SharedMemory, name: str) -> None:
    assert_error(register(wire, {"key": memory.name, "byte_size": 64}, name), 400)


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (-1, 64),
        (0, -1),
        (0, 0),
        (0, SIZE + 1),
        (1, SIZE),
        (SIZE, 1),
        (LARGEST, 1),
        (1, LARGEST),
        (2**64 - 32, 64),
        (2**64, 64),
        (0, 2**64 + 64),
        (int("9" * 4000), 64),
        (0.0, 64),
        (0, 64.0),
        (True, 64),
        ("0", 64),
        (None, 64),
        (0, None),
    ],
)
def test_bounds_of_a_region(wire: Wire, memory: SharedMemory, offset: Any, size: Any) -> None:
    said = {"key": memory.name, "offset": offset, "byte_size": size}
    assert_error(register(wire, said), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"key"',
        b"{}",
        b'{"key": "k"}',
        b'{"byte_size": 64}',
        b'{"key": "k", "byte_size": 64, "size": 64}',
        b'{"key": "k", "key": "l", "byte_size": 64}',
        b'{"key": "\\ud800", "byte_size": 64}',
        b'{"key": "k", "byte_size": 1e999}',
        b"[" * 100_000,
        b" " * 1_000_000,
        b"\xff\xfe",
    ],
)
def test_bodies_of_a_registration(wire: Wire, body: bytes) -> None:
    assert_error(register(wire, body), 400, 413)


def test_a_flood_of_regions_is_bounded_and_given_back(wire: Wire, memory: SharedMemory) -> None:
    statuses = [
        register(wire, {"key": memory.name, "byte_size": 64}, f"r{index}").status
        for index in range(300)
    ]
    assert statuses == [200] * 256 + [400] * 44


def test_other_methods_and_paths(wire: Wire) -> None:
    assert_error(wire.ask(get("/v2/systemsharedmemory/region/r/register")), 405)
    assert_error(wire.ask(plain("/v2/systemsharedmemory/status", b"")), 405)
    assert_error(wire.ask(get("/v2/systemsharedmemory/region/a%2Fb/status")), 404)
    assert_error(wire.ask(get("/v2/systemsharedmemory/region//status")), 404)
    assert_error(wire.ask(get("/v2/cudasharedmemory/region/r/status")), 404)
    assert_error(wire.ask(plain("/v2/cudasharedmemory/region/r/register", b"{}")), 400)


# -- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        place(offset=-1),
        place(offset=-256),
        place(offset=SIZE - 255),
        place(offset=SIZE),
        place(offset=LARGEST),
        place(offset=LARGEST - 255),
        place(offset=2**64 - 256),
        place(offset=2**64),
        place(offset=int("9" * 4000)),
        place(offset="0"),
        place(offset=0.0),
        place(offset=True),
        place(size=-1),
        place(size=0),
        place(size=255),
        place(size=SIZE + 1),
        place(size=LARGEST),
        place(size=2**64 + 256),
        place(size="256"),
        place(region="other"),
        place(region=""),
        place(region="x" * 100_000),
        place(region="../r"),
        place(region=1),
        {"shared_memory_region": "r"},
        {"shared_memory_byte_size": 256},
        {"shared_memory_offset": 0},
        place() | {"shared_memory_key": "k"},
    ],
)
def test_places_of_inputs_and_outputs(
    wire: Wire, memory: SharedMemory, where: dict[str, Any]
) -> None:
    assert register(wire, {"key": memory.name, "byte_size": SIZE}).status == 200
    assert_error(infer(wire, where), 400)
    assert_error(infer(wire, place(), where), 400)
    assert bytes(memory.buf[:SIZE]) == np.ones(SIZE // 4, "<f4").tobytes()


@pytest.mark.parametrize("where", [place(size=257), place() | {"binary_data_size": 256}])
def test_places_of_inputs_alone(wire: Wire, memory: SharedMemory, where: dict[str, Any]) -> None:
    """An output may have more room than it needs."""
    assert register(wire, {"key": memory.name, "byte_size": SIZE}).status == 200
    assert_error(infer(wire, where), 400)
    assert infer(wire, place(), where).status == 200


def test_neighbours_of_a_region_are_out_of_reach(wire: Wire, memory: SharedMemory) -> None:
    said = {"key": memory.name, "offset": 1000, "byte_size": 1000}
    assert register(wire, said).status == 200
    assert_error(infer(wire, place(offset=745)), 400)
    assert infer(wire, place(offset=744)).status == 200
    assert_error(infer(wire, place(), place(offset=1000 - 255)), 400)
    assert infer(wire, place(), place(offset=1000 - 256)).status == 200


def test_many_inputs_in_one_place_count_as_many(wire: Wire, memory: SharedMemory) -> None:
    """A request of some kilobytes must not name gigabytes."""
    with client_memory(64 * 1024 * 1024) as big:
        assert register(wire, {"key": big.name, "byte_size": big.size}).status == 200
        where = place(size=big.size)
        inputs = [
            tensor(f"x{index}", "BF16", [big.size // 2]) | {"parameters": where}
            for index in range(256)
        ]
        assert_error(wire.ask(plain("/v2/models/pair/infer", json_body(*inputs))), 413)
        texts = tensor("x", "BYTES", [big.size // 4]) | {"parameters": where}
        assert_error(wire.ask(plain("/v2/models/echo_bytes/infer", json_body(texts))), 413)


# -- what clients do meanwhile -------------------------------------------------------------------


def test_an_object_that_its_client_gave_up(wire: Wire) -> None:
    with client_memory(SIZE) as memory:
        memory.buf[:SIZE] = np.ones(SIZE // 4, "<f4").tobytes()
        assert register(wire, {"key": memory.name, "byte_size": SIZE}).status == 200
    reply = infer(wire, place(), place(offset=1024))
    assert reply.status == 200
    assert "data" in infer(wire, place(offset=1024)).json()["outputs"][0]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an object is sized only once")
@pytest.mark.parametrize("left", [0, 100, 4096, SIZE - 1])
def test_an_object_that_its_client_cut_off(wire: Wire, memory: SharedMemory, left: int) -> None:
    assert register(wire, {"key": memory.name, "byte_size": SIZE}).status == 200
    os.truncate(f"/dev/shm/{memory.name}", left)
    for where in (place(), place(offset=SIZE - 256)):
        told = assert_error(infer(wire, where), 400)
        assert "has become smaller" in told["error"]
        good = tensor("x", "FP32", [1], [1])
        outputs = [{"name": "y", "parameters": where}]
        asked = json_body(good, outputs=outputs)
        assert_error(wire.ask(plain("/v2/models/echo_fp32/infer", asked)), 400)


def test_regions_come_and_go_under_requests(
    sharing: ServerProcess, wire: Wire, memory: SharedMemory
) -> None:
    said = {"key": memory.name, "byte_size": SIZE}
    with Wire(sharing.port) as other:
        answers = set()
        for _ in range(100):
            register(other, said)
            wire.send(
                plain(
                    "/v2/models/echo_fp32/infer",
                    json_body(tensor("x", "FP32", [64]) | {"parameters": place()}),
                )
            )
            other.ask(plain("/v2/systemsharedmemory/region/r/unregister", b""))
            answers.add(wire.reply().status)
    assert answers <= {200, 400}


def test_nothing_of_it_without_the_setting(
    target: ServerProcess, conditions: Conditions, memory: SharedMemory
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for reply in (
            register(wire, {"key": memory.name, "byte_size": SIZE}),
            register(wire, b"{"),
            wire.ask(plain("/v2/systemsharedmemory/unregister", b"")),
            wire.ask(plain("/v2/systemsharedmemory/region/r/unregister", b"")),
            wire.ask(get("/v2/systemsharedmemory/status")),
            wire.ask(get("/v2/systemsharedmemory/region/r/status")),
            infer(wire, place()),
        ):
            told = assert_error(reply, 400)
            assert "shared memory is not enabled" in told["error"]
