"""Deterministic mode: the same requests, however they come, are answered with the same bits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pelton import Client
from raw_http import Wire, plain
from support_server import ServerProcess, write_python_model

REQUESTS = 1000
THREADS = 16
SIDE = 96

DICE = """
import random
import numpy as np

class Dice:
    def load(self, path, device):
        pass

    def predict(self, inputs):
        noise = np.random.rand(*inputs["x"].shape) + random.random()
        return {"y": (inputs["x"] + noise).astype(np.float32)}
"""


def write_layers(path: Path) -> None:
    """Write x [batch, SIDE] -> y: two layers whose sums depend on the order of summation."""
    rng = np.random.default_rng(1)
    weights = [(rng.random((SIDE, SIDE)) - 0.5).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Softmax", ["h"], ["s"]),
        helper.make_node("MatMul", ["s", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", SIDE])],
        [numpy_helper.from_array(each, f"w{i}") for i, each in enumerate(weights)],
    )
    path.parent.mkdir(parents=True)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_layers(tmp_path / "models/layers/model.onnx")
    write_python_model(tmp_path / "models/dice", DICE)
    return tmp_path / "models"


def requests() -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return the mixed requests: which model, and what it gets."""
    rng = np.random.default_rng(2)
    return [
        (
            "dice" if place % 4 == 0 else "layers",
            rng.random((int(rng.integers(1, 9)), SIDE), np.float32),
        )
        for place in range(REQUESTS)
    ]


def ask_all(server: ServerProcess, seed: int) -> list[bytes]:
    """Send all requests from many threads, in an order of their own; return the outputs' bytes."""
    wanted = requests()
    order = list(range(REQUESTS))
    random.Random(seed).shuffle(order)
    answers: list[bytes] = [b""] * REQUESTS

    def ask(client: Client, place: int) -> None:
        model, x = wanted[place]
        answers[place] = client.infer(model, {"x": x}).outputs["y"].tobytes()

    with Client(server.url) as client, ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(ask, client, place) for place in order]:
            done.result()
    return answers


def test_a_thousand_mixed_requests_give_the_same_bits_twice(models: Path, serve: Callable) -> None:
    answers = []
    for seed in (1, 2):
        server = serve(models, "--deterministic")
        answers.append(ask_all(server, seed))
        assert ", no batches, deterministic; " in server.log()
        server.stop()
    assert all(answers[0])
    assert answers[0] == answers[1]


def test_each_answer_carries_the_digest_of_its_outputs(models: Path, serve: Callable) -> None:
    server = serve(models, "--deterministic")
    with Wire(server.port) as wire:
        body = b'{"x": [[' + b",".join([b"1"] * SIDE) + b"]]}"
        told = []
        for _ in range(2):
            wire.send(plain("/infer?model=layers", body, {"Content-Type": "application/json"}))
            reply = wire.reply()
            assert reply.status == 200
            told.append(reply.headers["x-pelton-digest"])
        assert told[0] == told[1]
        assert told[0].startswith("sha256:")
        assert len(told[0]) == len("sha256:") + len(hashlib.sha256().hexdigest())


def test_without_it_nothing_is_fixed(models: Path, serve: Callable) -> None:
    with Client(serve(models).url) as client:
        x = np.zeros((1, SIDE), np.float32)
        first, second = (client.infer("dice", {"x": x}).outputs["y"].tobytes() for _ in range(2))
    assert first != second


def test_one_model_alone_may_ask_for_it(models: Path, serve: Callable) -> None:
    (models / "dice/model.toml").write_text("deterministic = true")
    server = serve(models)
    with Client(server.url) as client:
        x = np.zeros((1, SIDE), np.float32)
        first, second = (client.infer("dice", {"x": x}).outputs["y"].tobytes() for _ in range(2))
    assert first == second
    assert server.log().count("deterministic; ") == 1
