"""The digits example: the script trains and exports, and what is committed is its work."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
datasets = pytest.importorskip("sklearn.datasets")
from sklearn.model_selection import train_test_split  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "digits" / "train.py"
COMMITTED = EXAMPLES / "models" / "digits" / "1" / "model.onnx"


def held_out():
    """The test split of seed 0, made here without the script."""
    data = datasets.load_digits()
    _, pictures, _, digits = train_test_split(
        data.images.astype(np.uint8),
        data.target,
        test_size=0.2,
        stratify=data.target,
        random_state=0,
    )
    return pictures, digits


def probabilities(path, pictures):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": pictures})[0]


def accuracy(path):
    pictures, digits = held_out()
    return (probabilities(path, pictures).argmax(axis=1) == digits).mean()


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


def assert_silent_about_the_machine(data):
    for trace in (b".py", b"site-packages", b"stack_trace", b"/home", b"/root", b"/tmp"):
        assert trace not in data


def test_the_script_trains_a_model_as_good_as_it_says_and_as_the_committed_one(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "new" / "model.onnx"
    done = run_script("--out", out, "--epochs", "12")
    assert done.returncode == 0, done.stderr
    said = float(re.search(r"test accuracy ([\d.]+)%", done.stdout)[1]) / 100
    assert said >= 0.98
    assert accuracy(out) == pytest.approx(said, abs=5e-5)
    assert abs(accuracy(out) - accuracy(COMMITTED)) <= 0.015
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert_silent_about_the_machine(out.read_bytes())


def test_a_model_that_learnt_too_little_is_refused_and_not_written(tmp_path):
    pytest.importorskip("torch")
    done = run_script("--out", tmp_path / "model.onnx", "--epochs", "1")
    assert done.returncode == 1
    assert "too low: at least 98% is needed" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_committed_model_reads_at_least_98_percent_of_the_held_out_pictures():
    assert accuracy(COMMITTED) >= 0.98


def test_the_committed_model_declares_its_tensors_and_labels():
    model = onnx.load(COMMITTED)
    onnx.checker.check_model(model, full_check=True)
    (image,), (output,) = model.graph.input, model.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (output.name, output.type.tensor_type.elem_type) == (
        "probabilities",
        onnx.TensorProto.FLOAT,
    )
    dims = [
        [d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim] for t in (image, output)
    ]
    assert dims == [["batch", 8, 8], ["batch", 10]]
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == {
        "labels": [str(digit) for digit in range(10)]
    }


def test_the_committed_model_is_small_whole_and_says_nothing_of_the_machine_that_made_it():
    data = COMMITTED.read_bytes()
    assert len(data) < 200_000
    assert all(not t.external_data for t in onnx.load_from_string(data).graph.initializer)
    assert_silent_about_the_machine(data)


@pytest.mark.parametrize("rows", [0, 1, 2, 360])
def test_any_batch_gives_the_same_probabilities_as_one_by_one(rows):
    pictures, _ = held_out()
    together = probabilities(COMMITTED, pictures[:rows])
    assert together.shape == (rows, 10)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, rtol=1e-5)
    for row in range(0, rows, 60):
        alone = probabilities(COMMITTED, pictures[row : row + 1])
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-5)


def test_the_sample_is_a_held_out_seven():
    request = json.loads((EXAMPLES / "digits" / "sample.json").read_text())
    (tensor,) = request["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("image", "UINT8", [1, 8, 8])
    picture = np.array(tensor["data"], np.uint8).reshape(tensor["shape"])
    pictures, digits = held_out()
    (which,) = np.flatnonzero((pictures == picture).all(axis=(1, 2)))
    assert digits[which] == 7
    assert probabilities(COMMITTED, picture)[0, 7] > 0.99
