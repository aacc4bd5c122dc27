"""Models in worker processes keep the contract that every runtime keeps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto

from pelton.messages import Value
from pelton.runtimes.contract import LoadedModel, Run, RuntimeOptions
from pelton.runtimes.process.instance import ProcessInstance
from pelton.runtimes.process.starting import start_instances
from pelton.specs import ModelMetadata, ModelSpec, TensorSpec
from pelton.testing.runtime_contract import RuntimeContract, Sample
from runtimes.onnx_files import identity, linear

X = np.array([[1, 2], [3, 4]], np.float32)


class InAWorker:
    """An instance as the `LoadedModel` that the suite knows."""

    concurrent = False
    quick = False

    def __init__(self, instance: ProcessInstance) -> None:
        self._instance = instance

    @property
    def metadata(self) -> ModelMetadata:
        return self._instance.metadata

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        # The suite runs from a thread of its own, too; then a loop of that thread is used.
        return asyncio.run(self._instance.run(Run(inputs, math.inf)))

    def close(self) -> None:
        self._instance.close()
        self._instance.wait_closed()


def load(spec: ModelSpec, options: RuntimeOptions) -> LoadedModel:
    (instance,) = start_instances(spec, options, None, 1)
    return InAWorker(instance)


class TestOnnxInAWorker(RuntimeContract):
    def sample(self, folder: Path) -> Sample:
        (folder / "good.onnx").write_bytes(linear().SerializeToString())
        (folder / "broken.onnx").write_bytes(linear().SerializeToString()[:-20])
        spec = ModelSpec("tiny", 3, folder / "good.onnx", "onnx")
        return Sample(
            load=load,
            spec=spec,
            inputs={"x": X},
            expected={"y": np.array([[6, 9, 12], [12, 19, 26]], np.float32)},
            broken=replace(spec, path=folder / "broken.onnx"),
            bad_inputs={"x": np.array([[1, 2, 3]], np.float32)},
        )


class TestOnnxTextInAWorker(RuntimeContract):
    def sample(self, folder: Path) -> Sample:
        (folder / "good.onnx").write_bytes(identity(TensorProto.STRING).SerializeToString())
        (folder / "broken.onnx").write_bytes(b"")
        spec = ModelSpec("text", 1, folder / "good.onnx", "onnx")
        text = np.array([b"one", "zw\u00f6lf".encode()], np.object_)
        return Sample(
            load=load,
            spec=spec,
            inputs={"x": text},
            expected={"y": text},
            broken=replace(spec, path=folder / "broken.onnx"),
            bad_inputs={"x": np.array([b"\xff"], np.object_)},
        )


def python_model(folder: Path, name: str, code: str) -> ModelSpec:
    (folder / name).mkdir()
    (folder / name / "model.py").write_text(code)
    return ModelSpec(name, 1, folder / name, "python")


class TestPythonFunctionsInAWorker(RuntimeContract):
    def sample(self, folder: Path) -> Sample:
        code = (
            "def load_model(model_path, device):\n    pass\n"
            "def model_inference(obs):\n    return obs['state'] * 2\n"
        )
        return Sample(
            load=load,
            spec=python_model(folder, "pair", code),
            inputs={"state": X, "instruction": "go"},
            expected={"output": 2 * X},
            broken=python_model(folder, "broken", "def load_model(:\n"),
            bad_inputs={"instruction": "go"},
        )


class TestPythonClassInAWorker(RuntimeContract):
    def sample(self, folder: Path) -> Sample:
        code = (
            "class Policy:\n"
            "    def load(self, path, device):\n        self.factor = 2\n"
            "    def predict(self, inputs):\n        return {'y': inputs['x'] * self.factor}\n"
        )
        spec = replace(
            python_model(folder, "policy", code),
            inputs=(TensorSpec("x", "FP32", (-1, 2)),),
            outputs=(TensorSpec("y", "FP32", (-1, 2)),),
        )
        return Sample(
            load=load,
            spec=spec,
            inputs={"x": X},
            expected={"y": 2 * X},
            broken=python_model(folder, "broken", "raise SystemExit(3)\n"),
            bad_inputs={"x": "text"},
        )
