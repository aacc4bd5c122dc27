"""Every registered runtime keeps the contract that `pelton.testing` ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from pelton.runtimes import registry
from pelton.specs import ModelSpec, TensorSpec
from pelton.testing.runtime_contract import RuntimeContract, Sample
from runtimes.onnx_files import identity, linear

X = np.array([[1, 2], [3, 4]], np.float32)
WRONG = np.array([[1, 2, 3]], np.float32)


class TestOnnx(RuntimeContract):
    runtime = "onnx"

    def sample(self, folder: Path) -> Sample:
        (folder / "good.onnx").write_bytes(linear().SerializeToString())
        (folder / "broken.onnx").write_bytes(linear().SerializeToString()[:-20])
        spec = ModelSpec("tiny", 3, folder / "good.onnx", self.runtime)
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": X},
            expected={"y": np.array([[6, 9, 12], [12, 19, 26]], np.float32)},
            broken=replace(spec, path=folder / "broken.onnx"),
            bad_inputs={"x": WRONG},
        )


class TestOnnxText(RuntimeContract):
    runtime = "onnx"

    def sample(self, folder: Path) -> Sample:
        (folder / "good.onnx").write_bytes(identity(TensorProto.STRING).SerializeToString())
        (folder / "broken.onnx").write_bytes(b"")
        spec = ModelSpec("text", 1, folder / "good.onnx", self.runtime)
        text = np.array([b"one", "zw\u00f6lf".encode()], np.object_)
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": text},
            expected={"y": text},
            broken=replace(spec, path=folder / "broken.onnx"),
            bad_inputs={"x": np.array([b"\xff"], np.object_)},
        )


class TestOnnxBfloat16(RuntimeContract):
    runtime = "onnx"

    def sample(self, folder: Path) -> Sample:
        model = identity(TensorProto.BFLOAT16, ["n", 2])
        (folder / "good.onnx").write_bytes(model.SerializeToString())
        (folder / "broken.onnx").write_bytes(b"\x0a\xff\xff\xff\xff\x0f")
        spec = ModelSpec("half", 1, folder / "good.onnx", self.runtime)
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": X},
            expected={"y": X},
            broken=replace(spec, path=folder / "broken.onnx"),
            bad_inputs={"x": WRONG},
        )


class TestTorchExported(RuntimeContract):
    runtime = "torch"

    def sample(self, folder: Path) -> Sample:
        from runtimes.torch_files import exported_double

        good = exported_double(folder / "good.pt2")
        (folder / "broken.pt2").write_bytes(good.read_bytes()[:-100])
        spec = ModelSpec("double", 2, good, self.runtime)
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": X},
            expected={"output": 2 * X},
            broken=replace(spec, path=folder / "broken.pt2"),
            bad_inputs={"x": WRONG},
        )


class TestTorchScript(RuntimeContract):
    runtime = "torch"

    def sample(self, folder: Path) -> Sample:
        from runtimes.torch_files import Double, scripted

        good = scripted(folder / "good.pt", Double())
        (folder / "broken.pt").write_bytes(good.read_bytes()[:-100])
        spec = ModelSpec(
            "script",
            1,
            good,
            self.runtime,
            inputs=(TensorSpec("x", "FP32", (-1, 2)),),
            outputs=(TensorSpec("y", "FP32", (-1, 2)),),
        )
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": X},
            expected={"y": 2 * X},
            broken=replace(spec, path=folder / "broken.pt"),
            bad_inputs={"x": WRONG},
        )


def python_model(folder: Path, name: str, code: str) -> ModelSpec:
    (folder / name).mkdir()
    (folder / name / "model.py").write_text(code)
    return ModelSpec(name, 1, folder / name, "python")


class TestPythonFunctions(RuntimeContract):
    runtime = "python"

    def sample(self, folder: Path) -> Sample:
        code = (
            "def load_model(model_path, device):\n    pass\n"
            "def model_inference(obs):\n    return obs['state'] * 2\n"
        )
        return Sample(
            load=registry.load,
            spec=python_model(folder, "pair", code),
            inputs={"state": X, "instruction": "go"},
            expected={"output": 2 * X},
            broken=python_model(folder, "broken", "def load_model(:\n"),
            bad_inputs={"instruction": "go"},
        )


class TestPythonClass(RuntimeContract):
    runtime = "python"

    def sample(self, folder: Path) -> Sample:
        code = (
            "class Policy:\n    concurrent = True\n"
            "    def load(self, path, device):\n        self.factor = 2\n"
            "    def predict(self, inputs):\n        return {'y': inputs['x'] * self.factor}\n"
        )
        spec = replace(
            python_model(folder, "policy", code),
            inputs=(TensorSpec("x", "FP32", (-1, 2)),),
            outputs=(TensorSpec("y", "FP32", (-1, 2)),),
        )
        return Sample(
            load=registry.load,
            spec=spec,
            inputs={"x": X},
            expected={"y": 2 * X},
            broken=python_model(folder, "broken", "raise SystemExit(3)\n"),
            bad_inputs={"x": "text"},
        )


def test_no_runtime_is_left_out() -> None:
    suites = [one for one in globals().values() if isinstance(one, type)]
    tested = {
        one.runtime
        for one in suites
        if issubclass(one, RuntimeContract) and hasattr(one, "runtime")
    }
    assert tested == set(registry.runtimes())


@pytest.mark.parametrize("name", sorted(registry.runtimes()))
def test_every_runtime_claims_files(name: str) -> None:
    assert name in registry.claims().values()
