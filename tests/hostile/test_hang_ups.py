"""A thousand clients that hang up half-way leave nothing behind, wherever they were."""

from __future__ import annotations

import contextlib
import pickle
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostile.conditions import MIB, Conditions
from hostile.echo_requests import ones
from raw_http import Wire, chunked, get, plain
from support_server import ServerProcess, WaitingModel, until, write_matmul, write_python_model

CLIENTS = 1000
AT_ONCE = 20
OTHERS = 3  # the neighbour, the first client, and the model that asks this test whether to go on
ALLOWED_BYTES = 24 * MIB

_BIG_ANSWERS = """
import numpy as np

def load_model(model_path, device):
    return None

def model_inference(obs):
    return np.ones(obs["wanted"], np.uint8)
"""

_HEADERS = {"Content-Type": "application/octet-stream"}
_BIG_ANSWER = plain("/infer?model=big", pickle.dumps({"wanted": 8 * MIB}), _HEADERS)
_HELD_UP = plain("/infer?model=held", pickle.dumps({"value": 1}), _HEADERS)
_BODY = plain("/v2/models/matmul/infer", *ones(100_000))
_CHUNKED = chunked("/v2/models/matmul/infer", *ones(100_000), 1000)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[WaitingModel]:
    with WaitingModel(tmp_path / "models/held/1") as model:
        yield model


@pytest.fixture
def server(tmp_path: Path, held: WaitingModel) -> Iterator[ServerProcess]:
    write_matmul(tmp_path / "models/matmul/1/model.onnx")
    write_python_model(tmp_path / "models/big/1", _BIG_ANSWERS)
    with ServerProcess(tmp_path / "models", "--isolation=inline", "--instances=1") as server:
        yield server
        held.__exit__()
        assert server.stop() == 0, server.log()
        assert "Traceback" not in server.log(), server.log()


def in_the_head(wire: Wire) -> None:
    wire.send(_BODY[:30])


def in_the_body(wire: Wire) -> None:
    wire.send(_BODY[: len(_BODY) // 2])


def in_a_chunk(wire: Wire) -> None:
    wire.send(_CHUNKED[: len(_CHUNKED) // 2])


def in_the_line(wire: Wire) -> None:
    wire.send(_HELD_UP)


def in_the_answer(wire: Wire) -> None:
    wire.send(_BIG_ANSWER)
    assert wire.socket.recv(100)


PLACES: tuple[Callable[[Wire], None], ...] = (
    in_the_head,
    in_the_body,
    in_a_chunk,
    in_the_line,
    in_the_answer,
)


def hang_up(port: int, number: int) -> None:
    """Go half-way and leave: half of them with a reset, half in an orderly way."""
    with Wire(port) as wire:
        PLACES[number % len(PLACES)](wire)
        if number // len(PLACES) % 2:
            at_once = struct.pack("ii", 1, 0)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)


def a_thousand(server: ServerProcess, others: int) -> None:
    numbers = list(range(CLIENTS))
    random.Random(1).shuffle(numbers)

    def some(mine: list[int]) -> None:
        for number in mine:
            hang_up(server.port, number)

    threads = [
        threading.Thread(target=some, args=(numbers[first::AT_ONCE],)) for first in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: server.connections() <= others)
    # What the neighbour holds up is small, and charged until it is answered.
    until(lambda: held_bytes(server) == len(pickle.dumps({"value": 1})))


def held_bytes(server: ServerProcess) -> int:
    with Wire(server.port) as wire:
        now = wire.ask(get("/stats")).json()
    assert now["waiting_for_memory"] == 0
    return int(now["buffered_bytes"])


@pytest.mark.timeout(180)
def test_a_thousand_clients_hang_up(server: ServerProcess, held: WaitingModel) -> None:
    with contextlib.closing(Conditions(server)) as conditions, Wire(server.port) as first:
        first.send(_HELD_UP)
        run = held.next_run()  # the only instance is busy, so others stand in line
        conditions.memory_settles(lambda: a_thousand(server, OTHERS), 1, ALLOWED_BYTES, 5)
        held.release(run)
        assert first.reply().status == 200
        first.close()
        conditions.check()
