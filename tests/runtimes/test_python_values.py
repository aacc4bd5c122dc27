"""What a `model.py` is given, and what becomes of what it returns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.errors import InvalidRequest, ModelFailed
from pelton.specs import TensorSpec
from runtimes.python_folders import PAIR, X, answer, opened

ECHO = """
    def load_model(model_path, device): pass
    def model_inference(obs): return {name: repr(value) for name, value in obs.items()}
"""


def test_a_declared_scalar_reaches_the_code_as_a_plain_value(tmp_path: Path) -> None:
    declared = (
        TensorSpec("instruction", "BYTES", ()),
        TensorSpec("raw", "BYTES", ()),
        TensorSpec("gain", "FP32", ()),
        TensorSpec("step", "INT64", ()),
        TensorSpec("state", "FP32", (2,)),
    )
    model = opened(tmp_path, ECHO, inputs=declared, options={"objects": True})
    assert model.metadata.takes_objects
    inputs = {
        "instruction": np.array(["pick \u00fcp".encode()], np.object_),
        "raw": np.array(b"\xff", np.object_),
        "gain": np.array([0.5], np.float32),
        "step": np.array(3),
        "state": X,
    }
    assert model.run(inputs) == {
        "instruction": repr("pick \u00fcp"),
        "raw": repr(b"\xff"),
        "gain": "0.5",
        "step": "3",
        "state": repr(X),
    }
    plain = {"instruction": "go", "raw": b"x", "gain": 1, "step": None, "state": [1, 2], "more": 1}
    assert model.run(plain) == {name: repr(value) for name, value in plain.items()}
    assert list(inputs["gain"].shape) == [1]


def test_a_missing_declared_input_is_the_callers_fault(tmp_path: Path) -> None:
    model = opened(
        tmp_path, ECHO, inputs=(TensorSpec("state", "FP32", (2,)),), options={"objects": True}
    )
    with pytest.raises(InvalidRequest, match="input 'state' is missing"):
        model.run({"stat": X})


def test_a_model_with_declared_inputs_takes_only_arrays(tmp_path: Path) -> None:
    model = opened(tmp_path, PAIR, inputs=(TensorSpec("x", "FP32", (2,)),))
    assert not model.metadata.takes_objects


def result(folder: Path, expression: str, *outputs: TensorSpec) -> Any:
    code = f"""
        import numpy as np
        class Tensor:
            dtype = "torch.float32"
            def detach(self): return self
            def cpu(self): return self
            def float(self): return self
            def numpy(self): return np.array([7])
        def load_model(model_path, device): pass
        def model_inference(obs): return {expression}
    """
    return answer(folder, code, {}, outputs=outputs)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("None", {"output": None}),
        ("[1, 'a']", {"output": [1, "a"]}),
        ("(1, {'b': (2,)})", {"output": [1, {"b": [2]}]}),
        ("{'a': 1, 'b': None}", {"a": 1, "b": None}),
        ("{1: 2}", {"output": {1: 2}}),
        ("{}", {}),
    ],
)
def test_plain_results_stay_as_they_are(tmp_path: Path, expression: str, expected: Any) -> None:
    assert result(tmp_path, expression) == expected


def test_tensors_of_other_frameworks_become_arrays(tmp_path: Path) -> None:
    given = result(tmp_path, "{'a': Tensor(), 'b': [Tensor()], 'c': np.float32(2)}")
    assert given["a"].tolist() == [7]
    assert given["b"][0].tolist() == [7]
    assert (given["c"].shape, given["c"].dtype) == ((), np.float32)


def test_a_bfloat16_tensor_becomes_float32(tmp_path: Path) -> None:
    code = """
        import torch
        def load_model(model_path, device): pass
        def model_inference(obs): return torch.tensor([1.5], dtype=torch.bfloat16)
    """
    given = answer(tmp_path, code, {})["output"]
    assert (given.dtype, given.tolist()) == (np.float32, [1.5])


def test_declared_outputs_get_their_names_order_and_types(tmp_path: Path) -> None:
    action = TensorSpec("action", "FP32", (2,))
    text = TensorSpec("text", "BYTES", (-1,))
    one = result(tmp_path, "np.array([1.0, 2.0])", action)
    assert (list(one), one["action"].dtype) == (["action"], np.float32)
    given = result(tmp_path, "{'more': 1, 'text': ['a', b'b'], 'action': [1, 2]}", action, text)
    assert list(given) == ["action", "text"]
    assert (given["action"].dtype, given["action"].tolist()) == (np.float32, [1, 2])
    assert (given["text"].dtype, given["text"].tolist()) == (np.object_, [b"a", b"b"])


OUTPUT = TensorSpec("a", "FP32", (-1, 1))


@pytest.mark.parametrize(
    ("expression", "output", "said"),
    [
        ("{'b': 1}", TensorSpec("a", "FP32", ()), "returned b, but it declares the output 'a'"),
        ("1.5", TensorSpec("a", "INT64", ()), "output 'a' is float64, but it is declared as INT64"),
        ("[1]", TensorSpec("a", "BYTES", (1,)), "declared as BYTES, but holds other than texts"),
        ("np.zeros((3, 3, 3))", OUTPUT, "has shape [3, 3, 3], but it is declared with [-1, 1]"),
        ("np.zeros(3)", OUTPUT, "has shape [3], but it is declared with [-1, 1]"),
        ("np.zeros((3, 2))", OUTPUT, "has shape [3, 2], but it is declared with [-1, 1]"),
        ("np.zeros(())", OUTPUT, "has shape [], but it is declared with [-1, 1]"),
        ("None", OUTPUT, "output 'a' is object, but it is declared as FP32"),
        ("[b'a']", TensorSpec("a", "BYTES", ()), "has shape [1], but it is declared with []"),
    ],
)
def test_a_result_that_was_not_declared_is_the_models_fault(
    tmp_path: Path, expression: str, output: TensorSpec, said: str
) -> None:
    with pytest.raises(ModelFailed, match=re.escape(said)):
        result(tmp_path, expression, output)
