"""The test suite that every runtime passes; run it over your own.

In your package's tests:

    from pelton.testing.runtime_contract import RuntimeContract, Sample

    class TestMyRuntime(RuntimeContract):
        def sample(self, folder):
            (folder / "good.mine").write_bytes(...)
            (folder / "broken.mine").write_bytes(b"not a model")
            spec = ModelSpec("tiny", 3, folder / "good.mine", "mine")
            return Sample(
                load=my_package.load,
                spec=spec,
                inputs={"x": np.array([1, 2], np.float32)},
                expected={"y": np.array([2, 4], np.float32)},
                broken=replace(spec, path=folder / "broken.mine"),
                bad_inputs={"x": np.array([], np.float32)},
            )

pytest runs every test of the class with a folder of its own.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.errors import LoadFailed
from pelton.messages import Value
from pelton.runtimes.contract import LoadedModel, Loader, RuntimeOptions
from pelton.specs import ModelSpec
from pelton.tensors import DATATYPES, Array

MAX_SENTENCE = 600
"""A refusal is one sentence; this many characters are no sentence any more."""

THREADS = 4
RUNS_PER_THREAD = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """A tiny model to test a runtime with.

    Attributes:
        load: the runtime's loader.
        spec: the model; its file lies in the folder that the suite gave.
        inputs: inputs that it answers.
        expected: the outputs that it must give for them.
        broken: a spec of the same runtime whose file is damaged.
        bad_inputs: inputs of the declared kind at which a run raises; None if there are none.
    """

    load: Loader
    spec: ModelSpec
    inputs: Mapping[str, Value]
    expected: Mapping[str, Value]
    broken: ModelSpec
    bad_inputs: Mapping[str, Value] | None = None


class RuntimeContract(ABC):
    """What a runtime must do, as tests; derive from it and give a sample."""

    @abstractmethod
    def sample(self, folder: Path) -> Sample:
        """Make a model in an empty folder.

        Args:
            folder: an empty folder; write the model's files there.
        """

    def test_metadata_is_complete(self, tmp_path: Path) -> None:
        """A model says who it is, what it takes and gives, and where it runs."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            told = model.metadata
            assert (told.name, told.version) == (sample.spec.name, str(sample.spec.version))
            assert told.platform, "platform is empty"
            assert told.device, "device is empty"
            assert told.model_type, "model_type is empty"
            assert told.size_bytes > 0, "size_bytes is not told"
            assert told.inputs or told.takes_objects, "neither inputs nor takes_objects"
            for spec in (*told.inputs, *told.outputs):
                assert spec.datatype in DATATYPES, f"{spec.name} has no datatype of the protocol"
                assert all(type(size) is int and size >= -1 for size in spec.shape), spec
            if not told.takes_objects:
                assert {spec.name for spec in told.inputs} == set(sample.inputs)
            assert isinstance(model.concurrent, bool)
            assert isinstance(model.quick, bool)

    def test_metadata_stays_the_same(self, tmp_path: Path) -> None:
        """What a model says of itself does not change while it is loaded."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            before = model.metadata
            model.run(sample.inputs)
            assert model.metadata == before

    def test_a_run_gives_the_declared_outputs(self, tmp_path: Path) -> None:
        """Names and order are as declared, and so are datatypes, ranks and values."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            outputs = model.run(sample.inputs)
            declared = model.metadata.outputs
            if declared:
                assert list(outputs) == [spec.name for spec in declared]
            for spec in declared:
                value = outputs[spec.name]
                assert isinstance(value, np.ndarray), f"{spec.name} is no array"
                assert value.dtype == DATATYPES[spec.datatype].dtype, spec.name
                assert len(value.shape) == len(spec.shape), spec.name
            _assert_equal(outputs, sample.expected)

    def test_the_same_inputs_give_the_same_outputs(self, tmp_path: Path) -> None:
        """Two runs agree to the bit."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            first, second = model.run(sample.inputs), model.run(sample.inputs)
            assert list(first) == list(second)
            for name, value in first.items():
                assert _bits(value) == _bits(second[name]), name

    def test_a_run_leaves_its_inputs_alone(self, tmp_path: Path) -> None:
        """The caller's arrays hold what they held."""
        sample = self.sample(tmp_path)
        inputs = {name: _copied(value) for name, value in sample.inputs.items()}
        with loaded(sample) as model:
            model.run(inputs)
        for name, value in sample.inputs.items():
            assert _bits(inputs[name]) == _bits(value), name

    def test_outputs_outlive_the_next_run(self, tmp_path: Path) -> None:
        """An output is not overwritten by a later run, nor when the model is closed."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            first = model.run(sample.inputs)
            other = {name: _zeroed(value) for name, value in sample.inputs.items()}
            model.run(other)
        _assert_equal(first, sample.expected)

    def test_read_only_inputs_are_taken(self, tmp_path: Path) -> None:
        """Inputs may be views of the bytes of a request."""
        sample = self.sample(tmp_path)
        inputs = {name: _read_only(value) for name, value in sample.inputs.items()}
        with loaded(sample) as model:
            _assert_equal(model.run(inputs), sample.expected)

    def test_unaligned_inputs_are_taken(self, tmp_path: Path) -> None:
        """Inputs may begin anywhere in the bytes of a request."""
        sample = self.sample(tmp_path)
        inputs = {name: _unaligned(value) for name, value in sample.inputs.items()}
        with loaded(sample) as model:
            _assert_equal(model.run(inputs), sample.expected)

    def test_a_concurrent_model_is_run_by_threads(self, tmp_path: Path) -> None:
        """A model that says it is `concurrent` answers several threads rightly."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            threads = THREADS if model.concurrent else 1
            start = threading.Barrier(threads)

            def work() -> list[dict[str, Value]]:
                start.wait()
                return [model.run(sample.inputs) for _ in range(RUNS_PER_THREAD)]

            with ThreadPoolExecutor(threads) as pool:
                working = [pool.submit(work) for _ in range(threads)]
            for answers in working:
                for outputs in answers.result():
                    _assert_equal(outputs, sample.expected)

    def test_a_failed_run_leaves_the_model_usable(self, tmp_path: Path) -> None:
        """An error is an exception, and the next request is answered."""
        sample = self.sample(tmp_path)
        with loaded(sample) as model:
            if sample.bad_inputs is not None:
                with pytest.raises(Exception):  # noqa: B017, PT011 - a runtime may raise what it likes
                    model.run(sample.bad_inputs)
            _assert_equal(model.run(sample.inputs), sample.expected)

    def test_a_broken_file_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        """The sentence names the file and no folder of the machine."""
        sample = self.sample(tmp_path)
        _assert_refused(sample, sample.broken, tmp_path)

    def test_a_missing_file_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        """A file may vanish between the scan and the load."""
        sample = self.sample(tmp_path)
        gone = replace(sample.spec, path=tmp_path / "gone" / sample.spec.path.name)
        _assert_refused(sample, gone, tmp_path)

    def test_an_unknown_option_is_refused(self, tmp_path: Path) -> None:
        """A misspelt option must not change nothing without a word."""
        sample = self.sample(tmp_path)
        wrong = replace(sample.spec, options={**sample.spec.options, "no_such_option": 1})
        assert "no_such_option" in _assert_refused(sample, wrong, tmp_path)

    def test_a_model_is_loaded_again_after_it_was_closed(self, tmp_path: Path) -> None:
        """Nothing of a closed model stands in the way of the next one."""
        sample = self.sample(tmp_path)
        for _ in range(2):
            with loaded(sample) as model:
                _assert_equal(model.run(sample.inputs), sample.expected)


@contextmanager
def loaded(sample: Sample) -> Iterator[LoadedModel]:
    """Load a sample's model with default options, and close it in the end."""
    model = sample.load(sample.spec, RuntimeOptions())
    try:
        yield model
    finally:
        model.close()


def _assert_refused(sample: Sample, spec: ModelSpec, folder: Path) -> str:
    with pytest.raises(LoadFailed) as refusal:
        sample.load(spec, RuntimeOptions())
    message = refusal.value.message
    assert 0 < len(message) <= MAX_SENTENCE, message
    assert "\n" not in message, message
    assert str(folder) not in message, message
    return message


def _assert_equal(outputs: Mapping[str, Value], expected: Mapping[str, Value]) -> None:
    assert list(outputs) == list(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert isinstance(outputs[name], np.ndarray), f"{name} is no array"
            np.testing.assert_array_equal(outputs[name], value, err_msg=name)
        else:
            assert outputs[name] == value, name


def _bits(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != np.object_:
        return value.dtype.str, value.shape, value.tobytes()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _copied(value: Value) -> Value:
    return value.copy() if isinstance(value, np.ndarray) else value


def _zeroed(value: Value) -> Value:
    if isinstance(value, np.ndarray) and value.dtype != np.object_:
        return np.zeros_like(value)
    return value


def _read_only(value: Value) -> Value:
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
    return value


def _unaligned(value: Value) -> Value:
    """Return a read-only copy whose first byte has an odd address."""
    if not isinstance(value, np.ndarray) or value.dtype == np.object_:
        return value
    raw = np.zeros(value.nbytes + 2, np.uint8)
    start = 1 - raw.ctypes.data % 2
    raw[start : start + value.nbytes] = np.frombuffer(value.tobytes(), np.uint8)
    array: Array = raw[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    array.flags.writeable = False
    return array
