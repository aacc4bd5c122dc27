from __future__ import annotations

from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository.model_toml import ModelToml, read_model_toml
from pelton.specs import TensorSpec
from repository.folders import toml


def read(folder: Path, text: str) -> ModelToml:
    return read_model_toml(toml(folder, text), "net/1")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        read(folder, text)
    message = error.value.message
    assert message.startswith("net/1/model.toml")
    assert "\n" not in message
    return message


WHOLE = """
    runtime = "python"
    file = "model.py"
    objects = true
    labels = ["cat", "dog"]

    [[inputs]]
    name = "image"
    datatype = "UINT8"
    shape = [-1, 480, 640, 3]

    [[inputs]]
    name = "instruction"
    datatype = "BYTES"
    shape = []

    [[outputs]]
    name = "scores"
    datatype = "FP32"
    shape = [-1, 2]
    labels = ["a", "b"]

    [options]
    device = "cuda:0"
    concurrent = true
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == ModelToml(
        runtime="python",
        file="model.py",
        inputs=(
            TensorSpec("image", "UINT8", (-1, 480, 640, 3)),
            TensorSpec("instruction", "BYTES", ()),
        ),
        outputs=(TensorSpec("scores", "FP32", (-1, 2)),),
        labels={"": ("cat", "dog"), "scores": ("a", "b")},
        options={"device": "cuda:0", "concurrent": True, "objects": True},
    )


def test_every_key_may_be_missing(tmp_path: Path) -> None:
    assert read_model_toml(tmp_path, "net") == ModelToml()
    assert read(tmp_path, "") == ModelToml()


def test_labels_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\nsea lion\n\u732b\n", encoding="utf-8")
    assert read(tmp_path, 'labels = "labels.txt"').labels == {"": ("cat", "sea lion", "\u732b")}
    (tmp_path / "labels.json").write_text('["cat", "dog"]')
    assert read(tmp_path, 'labels = "labels.json"').labels == {"": ("cat", "dog")}


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", "[" * 100_000])
def test_labels_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    assert "labels" in refusal(tmp_path, 'labels = "labels.json"')


def test_labels_may_not_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", "link", str(tmp_path / "secret")):
        said = refusal(tmp_path / "net", f"labels = '{name}'")
        assert said.endswith("leads out of the model's folder; copy it there")
    assert "there is no 'gone'" in refusal(tmp_path / "net", "labels = 'gone'")


ROW = 'name = "x"\ndatatype = "FP32"\nshape = [1]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runtme = 'onnx'", ": unknown key `runtme`; did you mean `runtime`?"),
        ("[option]\n", ": unknown key `option`; did you mean `options`?"),
        ("zzz = 1", "known are runtime, file, objects, labels, inputs, outputs, options"),
        (
            "[[inputs]]\n" + ROW + "dtype = 1",
            "unknown key `dtype` in [[inputs]]; did you mean `dat",
        ),
        ("runtime = 1", ": `runtime` must be text in quotes"),
        ("file = ['a']", ": `file` must be text in quotes"),
        ("objects = 1", ": `objects` must be true or false"),
        ("options = 1", ": `options` must be a table"),
        ("inputs = 1", ": `inputs` must be written as [[inputs]]"),
        ("inputs = [1]", ": inputs must be written as [[inputs]]"),
        ("labels = 1", ": `labels` must be a list of texts, or the name of a file"),
        ("labels = ['a', 1]", ": `labels` must be a list of texts"),
        ("[options]\nobjects = true", ": write `objects` at the top, above every [table]"),
        ("[[inputs]]\nname = 'x'", ": every one of [[inputs]] needs a `datatype`"),
        ("[[outputs]]\n" + ROW.replace("FP32", "float"), "'float' of 'x' is no datatype; known"),
        ("[[inputs]]\n" + ROW.replace('"x"', '""'), "must have 1 to 256 characters"),
        ("[[inputs]]\n" + ROW.replace("[1]", "[-2]"), "the shape of 'x' must be a list"),
        ("[[inputs]]\n" + ROW.replace("[1]", "[true]"), "the shape of 'x' must be a list"),
        ("[[inputs]]\n" + ROW.replace("[1]", "[1.0]"), "the shape of 'x' must be a list"),
        ("[[inputs]]\n" + ROW.replace("[1]", str([1] * 33)), "at most 32 whole numbers"),
        ("[[inputs]]\n" + ROW.replace("[1]", f"[{2**63}]"), "the shape of 'x' must be a list"),
        (("[[inputs]]\n" + ROW) * 2, ": inputs has 'x' twice"),
        ("[[inputs]]\n" + ROW + "labels = ['a']", ": inputs have no labels"),
        ("a = ?", " is no valid TOML: Invalid value (at line 1, column 5)"),
        ("a = " + "[" * 20_000, " is no valid TOML: "),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadFailed, match=r"net/model.toml is not UTF-8 text"):
        read_model_toml(tmp_path, "net")
    (tmp_path / "model.toml").write_bytes(b"#" * (64 << 10) + b"\n")
    with pytest.raises(LoadFailed, match=r"net/model.toml is larger than 65536 bytes"):
        read_model_toml(tmp_path, "net")


def test_a_folder_called_model_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.toml").mkdir()
    with pytest.raises(LoadFailed, match=r"net/model.toml cannot be read: Is a directory"):
        read_model_toml(tmp_path, "net")
