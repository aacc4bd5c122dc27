"""Each test of the suite finds the runtime that it is there to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.errors import InvalidRequest, LoadFailed
from pelton.messages import Value
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import ModelMetadata, ModelSpec, TensorSpec
from pelton.testing.runtime_contract import RuntimeContract, Sample

X = np.array([1, 2], np.float32)


class Good:
    """Doubles its input; the faults below each break one thing."""

    concurrent = True
    quick = True
    loads = 0

    def __init__(self, spec: ModelSpec) -> None:
        ends = (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),)
        self.metadata = ModelMetadata(
            spec.name, str(spec.version), "good", *ends, model_type="Good", size_bytes=4
        )

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        if len(inputs["x"]) == 0:
            raise InvalidRequest("nothing came")
        return {"y": inputs["x"] * 2}

    def close(self) -> None:
        pass


def load_as(kind: type[Good]) -> Callable[[ModelSpec, RuntimeOptions], Good]:
    def load(spec: ModelSpec, options: RuntimeOptions) -> Good:
        for name in spec.options:
            raise LoadFailed(f"unknown option {name}")
        if not spec.path.exists() or spec.path.read_bytes() != b"good":
            raise LoadFailed(f"{spec.path.name} is broken")
        kind.loads += 1
        return kind(spec)

    return load


class Suite(RuntimeContract):
    def __init__(self, load: Any) -> None:
        self.load = load

    def sample(self, folder: Path) -> Sample:
        (folder / "good").write_bytes(b"good")
        (folder / "broken").write_bytes(b"broken")
        spec = ModelSpec("m", 1, folder / "good", "good")
        return Sample(
            load=self.load,
            spec=spec,
            inputs={"x": X},
            expected={"y": 2 * X},
            broken=replace(spec, path=folder / "broken"),
            bad_inputs={"x": X[:0]},
        )


TESTS = [name for name in dir(RuntimeContract) if name.startswith("test_")]


@pytest.mark.parametrize("test", TESTS)
def test_a_good_runtime_passes(tmp_path: Path, test: str) -> None:
    getattr(Suite(load_as(Good)), test)(tmp_path)


class SaysNothingOfItself(Good):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.metadata = replace(self.metadata, size_bytes=0)


class ChangesItsMind(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.metadata = replace(self.metadata, device="gpu")
        return super().run(inputs)


class GivesAnotherType(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        return {"y": super().run(inputs)["y"].astype(np.float64)}


class IsNotSure(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.factor = getattr(self, "factor", 2) + 1e-6
        return {"y": inputs["x"] * np.float32(self.factor)}


class WritesToItsInput(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        if inputs["x"].flags.writeable:
            inputs["x"][:] = 7
        return super().run(inputs)


class ReusesItsOutput(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.buffer = getattr(self, "buffer", np.zeros(2, np.float32))
        self.buffer[:] = super().run(inputs)["y"]
        return {"y": self.buffer}


class NeedsWritableInputs(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        inputs["x"][:] *= 1
        return super().run(inputs)


class NeedsAlignedInputs(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        if not inputs["x"].flags.aligned:
            raise ValueError("unaligned")
        return super().run(inputs)


class IsNotConcurrent(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.runs = getattr(self, "runs", 0) + 1
        if self.runs > 20:
            raise RuntimeError("too much for me")
        return super().run(inputs)


class BreaksForGood(Good):
    broken = False

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        self.broken = self.broken or len(inputs["x"]) == 0
        return {} if self.broken and len(inputs["x"]) else super().run(inputs)


class LoadsOnce(Good):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        if LoadsOnce.loads > 1:
            raise RuntimeError("already loaded")
        return super().run(inputs)


def any_file(spec: ModelSpec, options: RuntimeOptions) -> Good:
    if spec.options:
        raise LoadFailed("unknown option no_such_option")
    return Good(spec)


def in_many_lines(spec: ModelSpec, options: RuntimeOptions) -> Good:
    try:
        return load_as(Good)(spec, options)
    except LoadFailed as error:
        raise LoadFailed(f"{spec.path}\nis broken") from error


def any_option(spec: ModelSpec, options: RuntimeOptions) -> Good:
    return load_as(Good)(replace(spec, options={}), options)


FAULTS: dict[str, Any] = {
    "test_metadata_is_complete": load_as(SaysNothingOfItself),
    "test_metadata_stays_the_same": load_as(ChangesItsMind),
    "test_a_run_gives_the_declared_outputs": load_as(GivesAnotherType),
    "test_the_same_inputs_give_the_same_outputs": load_as(IsNotSure),
    "test_a_run_leaves_its_inputs_alone": load_as(WritesToItsInput),
    "test_outputs_outlive_the_next_run": load_as(ReusesItsOutput),
    "test_read_only_inputs_are_taken": load_as(NeedsWritableInputs),
    "test_unaligned_inputs_are_taken": load_as(NeedsAlignedInputs),
    "test_a_concurrent_model_is_run_by_threads": load_as(IsNotConcurrent),
    "test_a_failed_run_leaves_the_model_usable": load_as(BreaksForGood),
    "test_a_broken_file_is_refused_in_one_sentence": in_many_lines,
    "test_a_missing_file_is_refused_in_one_sentence": any_file,
    "test_an_unknown_option_is_refused": any_option,
    "test_a_model_is_loaded_again_after_it_was_closed": load_as(LoadsOnce),
}


def test_there_is_a_fault_for_every_test() -> None:
    assert set(FAULTS) == set(TESTS)


@pytest.mark.parametrize("test", TESTS)
def test_a_faulty_runtime_is_found(tmp_path: Path, test: str) -> None:
    found = (AssertionError, ValueError, RuntimeError, pytest.fail.Exception)
    with pytest.raises(found):
        getattr(Suite(FAULTS[test]), test)(tmp_path)
