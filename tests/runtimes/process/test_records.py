"""What a worker and the server tell each other of the model."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import pytest

from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.records import metadata_of, options_of, spec_of, spec_told, told
from pelton.runtimes.process.values import Malformed
from pelton.specs import GoldenSource, ModelMetadata, ModelSpec, TensorSpec, VersionPolicy

X = TensorSpec("x", "FP32", (-1, 2))


def test_a_worker_is_not_told_how_its_model_is_kept() -> None:
    golden = GoldenSource("one", {"x": [0.5] * 100_000})
    spec = ModelSpec("m", 1, Path("m"), "python", options={"a": 1})
    kept = dataclasses.replace(
        spec, policy=VersionPolicy(2), pinned=True, version_labels={"a": 1}, golden=(golden,)
    )
    assert spec_of(json.loads(json.dumps(spec_told(kept)))) == spec


def test_a_spec_comes_as_it_was() -> None:
    spec = ModelSpec(
        "m",
        3,
        Path("/models/m.onnx"),
        "onnx",
        inputs=(X,),
        outputs=(X, X),
        labels=types.MappingProxyType({"": ("a", "b")}),
        options={"device": "cpu", "deep": {"list": [1, (2,)]}},
        serving={"batching": {"max_batch_rows": 4}},
    )
    assert spec_of(spec_told(spec)) == spec


def test_options_come_as_they_were() -> None:
    options = RuntimeOptions(device="cuda:1", threads=3, deterministic=True)
    assert options_of(told(options)) == options


METADATA = ModelMetadata("m", "3", "onnx", (X,), (X,), labels={"y": ("a",)}, parameters=7)


def test_metadata_comes_as_it_was() -> None:
    assert metadata_of(told(METADATA)) == METADATA


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": 5},
        {"inputs": [5]},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{"name": "x", "datatype": "FP33", "shape": [1]}]},
        {"inputs": [{"name": 1, "datatype": "FP32", "shape": [1]}]},
        {"outputs": [{"name": "x", "datatype": "FP32", "shape": [-2]}]},
        {"outputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]},
        {"outputs": [{"name": "x", "datatype": [], "shape": []}]},
        {"unknown": 1},
    ],
    ids=repr,
)
def test_what_is_no_metadata_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        metadata_of({**told(METADATA), **change})


@pytest.mark.parametrize("value", [None, 5, [], {}, "text"], ids=repr)
def test_what_is_no_record_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        metadata_of(value)
