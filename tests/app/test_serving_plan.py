"""Whose word counts, and what is chosen where nobody said anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pelton.serving_plan import MOST_WORKERS, Facts, Plan, choose, serving_of, usable_cores
from pelton.specs import Batching, ModelSpec, Serving

ONNX = Facts(isolated=False, shared=True)
PYTHON = Facts(isolated=True, shared=False)
SHARED_PYTHON = Facts(isolated=True, shared=True)
CORES = 8


def spec(**serving: Any) -> ModelSpec:
    return ModelSpec("m", 1, Path("m.onnx"), "onnx", serving=serving)


# -- whose word counts ---------------------------------------------------------------------------


def test_what_a_model_does_not_say_is_the_servers() -> None:
    server = Serving(instances=3, batching=Batching(max_delay_ms=2.0))
    assert serving_of(spec(), server) == server


def test_what_a_model_says_comes_first() -> None:
    server = Serving(
        isolation="process",
        instances=3,
        request_timeout_s=9.0,
        batching=Batching(max_batch_rows=8, max_delay_ms=2.0),
    )
    said = spec(
        isolation="inline",
        instances=0,
        batching={"max_batch_rows": 1, "preferred_batch_rows": (4, 8), "pad": True},
    )
    assert serving_of(said, server) == Serving(
        isolation="inline",
        instances=0,
        request_timeout_s=9.0,
        batching=Batching(
            max_batch_rows=1, max_delay_ms=2.0, preferred_batch_rows=(4, 8), pad=True
        ),
    )


@pytest.mark.parametrize(
    ("server", "own", "chosen"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
def test_the_servers_determinism_holds_for_every_model(server, own, chosen) -> None:
    serving = serving_of(spec(deterministic=own), Serving(deterministic=server))
    assert serving.deterministic is chosen


# -- what is chosen ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serving", "facts", "plan"),
    [
        ({}, ONNX, Plan("inline", CORES, 1)),
        ({"optimize_for": "latency"}, ONNX, Plan("inline", 1, CORES)),
        ({"isolation": "process"}, ONNX, Plan("process", MOST_WORKERS, CORES // MOST_WORKERS)),
        ({"isolation": "process", "optimize_for": "latency"}, ONNX, Plan("process", 1, CORES)),
        ({}, PYTHON, Plan("process", 1, CORES)),
        ({"isolation": "inline"}, PYTHON, Plan("inline", 1, CORES)),
        ({"isolation": "inline"}, SHARED_PYTHON, Plan("inline", CORES, 1)),
        ({}, SHARED_PYTHON, Plan("process", 1, CORES)),
        ({}, Facts(False, True, on_gpu=True), Plan("inline", 1, CORES)),
        ({"deterministic": True}, ONNX, Plan("inline", 1, 1)),
        ({"deterministic": True}, PYTHON, Plan("process", 1, 1)),
    ],
)
def test_the_table(serving, facts: Facts, plan: Plan) -> None:
    assert choose(Serving(**serving), facts, CORES) == plan


@pytest.mark.parametrize(
    ("serving", "facts", "plan"),
    [
        ({"instances": 2}, ONNX, Plan("inline", 2, 4)),
        ({"threads": 3}, ONNX, Plan("inline", 2, 3)),
        ({"instances": 5, "threads": 7}, ONNX, Plan("inline", 5, 7)),
        ({"instances": 100}, ONNX, Plan("inline", 100, 1)),
        ({"threads": 100}, ONNX, Plan("inline", 1, 100)),
        ({"threads": 4, "isolation": "process"}, ONNX, Plan("process", 2, 4)),
        ({"instances": 3}, PYTHON, Plan("process", 3, 2)),
        ({"instances": 2}, Facts(False, True, on_gpu=True), Plan("inline", 2, 4)),
        ({"instances": 2, "optimize_for": "latency"}, ONNX, Plan("inline", 2, 4)),
        ({"deterministic": True, "instances": 4, "threads": 2}, ONNX, Plan("inline", 1, 2)),
    ],
)
def test_a_number_that_was_said_comes_first(serving, facts: Facts, plan: Plan) -> None:
    assert choose(Serving(**serving), facts, CORES) == plan


def test_one_core_is_enough() -> None:
    assert choose(Serving(), ONNX, 1) == Plan("inline", 1, 1)
    assert choose(Serving(), PYTHON, 1) == Plan("process", 1, 1)


def test_cores_that_are_forbidden_do_not_count() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0))
