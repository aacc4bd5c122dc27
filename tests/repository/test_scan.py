from __future__ import annotations

from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository.scan import scan, scan_versions
from pelton.specs import ModelSpec
from repository.folders import CLAIMS, toml, tree


def found(path: Path) -> list[tuple[str, int, str, str]]:
    """Name, version, path below the scanned one, and runtime of each model."""
    return [told(spec, path) for spec in scan(path, CLAIMS)]


def told(spec: ModelSpec, path: Path) -> tuple[str, int, str, str]:
    root = path if path.is_dir() else path.parent
    return spec.name, spec.version, str(spec.path.relative_to(root)), spec.runtime


def refusal(path: Path) -> str:
    with pytest.raises(LoadFailed) as error:
        scan(path, CLAIMS)
    assert "\n" not in error.value.message
    return error.value.message


# What is found.


def test_a_file(tmp_path: Path) -> None:
    tree(tmp_path, "net.onnx", "other.onnx", "m.v2.PT2")
    assert found(tmp_path / "net.onnx") == [("net", 1, "net.onnx", "onnx")]
    assert found(tmp_path / "m.v2.PT2") == [("m.v2", 1, "m.v2.PT2", "torch")]


def test_a_file_stands_alone_whatever_lies_beside_it(tmp_path: Path) -> None:
    toml(tmp_path, "nonsense = 1")
    tree(tmp_path, "net.onnx", "model.py")
    assert found(tmp_path / "net.onnx") == [("net", 1, "net.onnx", "onnx")]


def test_a_folder_with_model_py(tmp_path: Path) -> None:
    folder = tree(tmp_path / "policy", "model.py", "weights.pt", "extra.onnx", "parts/x.py")
    assert found(folder) == [("policy", 1, ".", "python")]
    assert found(folder / "model.py") == [("policy", 1, ".", "python")]


def test_a_folder_is_named_also_when_the_path_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path / "policy", "model.py")
    monkeypatch.chdir(folder)
    assert [spec.name for spec in scan(Path(), CLAIMS)] == ["policy"]


def test_a_folder_of_versions(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "1/a.onnx", "9/b.onnx", "10/c.pt2")
    assert found(folder) == [("net", 10, "10/c.pt2", "torch")]
    assert [told(spec, folder) for spec in scan_versions(folder, CLAIMS)] == [
        ("net", 1, "1/a.onnx", "onnx"),
        ("net", 9, "9/b.onnx", "onnx"),
        ("net", 10, "10/c.pt2", "torch"),
    ]


def test_one_version_is_named_by_the_folder_above(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net" / "7", "model.py")
    assert found(folder) == [("net", 7, ".", "python")]


def test_a_folder_of_models(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "digits/1/model.onnx",
        "digits/2/model.onnx",
        "policy/1/model.py",
        "policy/1/weights.pt",
        "scorer/net.pt",
        "7b/1/m.onnx",
    )
    assert found(tmp_path) == [
        ("7b", 1, "7b/1/m.onnx", "onnx"),
        ("digits", 2, "digits/2/model.onnx", "onnx"),
        ("policy", 1, "policy/1", "python"),
        ("scorer", 1, "scorer/net.pt", "torch"),
    ]
    assert [spec.version for spec in scan_versions(tmp_path, CLAIMS)] == [1, 1, 2, 1, 1]


def test_strays_are_passed_over(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "README.md",
        ".gitkeep",
        ".git/config.onnx",
        "__pycache__/x.pyc",
        "net/README.md",
        "net/.cache/1/m.onnx",
        "net/1/model.onnx",
        "net/1/model.onnx.data",
        "net/1/notes.txt",
        "net/1/.hidden.onnx",
        "net/1/assets/part.onnx",
    )
    assert found(tmp_path) == [("net", 1, "net/1/model.onnx", "onnx")]


def test_an_older_version_may_be_broken(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "1/", "2/m.onnx")
    assert found(folder) == [("net", 2, "2/m.onnx", "onnx")]
    with pytest.raises(LoadFailed, match="no model file in net/1"):
        scan_versions(folder, CLAIMS)


def test_the_longest_suffix_claims_a_file(tmp_path: Path) -> None:
    tree(tmp_path, "a.tar.onnx")
    claims = {".onnx": "short", ".tar.onnx": "long"}
    assert [spec.runtime for spec in scan(tmp_path / "a.tar.onnx", claims)] == ["long"]


# What is refused.


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'} does not exist"


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    tree(tmp_path, "net.h5")
    assert refusal(tmp_path / "net.h5") == (
        f"{tmp_path / 'net.h5'} is no kind of model file that is known; "
        "known are .onnx, .pt, .pt2, model.py"
    )


@pytest.mark.parametrize("files", [(), ("README.md",), (".hidden/1/m.onnx",)])
def test_a_folder_without_models(tmp_path: Path, files: tuple[str, ...]) -> None:
    tree(tmp_path, *files)
    assert refusal(tmp_path) == (
        f"there is no model in {tmp_path}; "
        "expected is NAME/VERSION/model.onnx, such as digits/1/model.onnx"
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a/1/m.onnx", "src/main.c"), "there is no model in the folder 'src'; expected is NAME/"),
        (("a/1/m.onnx", "empty/"), "there is no model in the folder 'empty'"),
        (("a/1/",), "there is no model file in a/1; expected is one that ends in or is called .on"),
        (("a/1/x.onnx", "a/1/y.pt"), "a/1 holds more than one model: x.onnx, y.pt; keep one, or"),
        (("a/x.onnx", "a/y.onnx"), "a holds more than one model: x.onnx, y.onnx; keep one"),
        (("a/01/m.onnx",), "a/01 is no version; versions are whole numbers from 1"),
        (("a/0/m.onnx",), "a/0 is no version"),
        (("a/1/m.onnx", "a/v2/m.onnx"), "a/v2 stands among versions but is none; move it away"),
        (("a/1/m.onnx", "a/m.onnx"), "'a' holds a model beside its folders of versions; move it"),
        (("a/1/m.onnx", "a/model.py"), "into a folder of its own, such as a/2"),
        (("old.onnx", "a/1/m.onnx"), "holds both a model file and folders of models; expected"),
        (("old.onnx", "a/m.onnx"), "holds both a model file and folders of models"),
        (("my model/1/m.onnx",), "would make a model called 'my model'; rename it"),
        (("-a/1/m.onnx",), "would make a model called '-a'; rename it: a name has letters"),
        (("a" * 129 + "/1/m.onnx",), "rename it"),
    ],
)
def test_a_folder_that_is_not_as_it_must_be(
    tmp_path: Path, files: tuple[str, ...], said: str
) -> None:
    tree(tmp_path, *files)
    assert said in refusal(tmp_path)


def test_a_file_with_an_unfit_name(tmp_path: Path) -> None:
    tree(tmp_path, "my net.onnx")
    assert "would make a model called 'my net'; rename it" in refusal(tmp_path / "my net.onnx")


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a/1/m.onnx")

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert refusal(tmp_path).endswith("cannot be read: Permission denied")
    monkeypatch.setattr(Path, "stat", refuse)
    assert refusal(tmp_path) == f"{tmp_path} cannot be read: Permission denied"


# What model.toml changes.


def test_model_toml_picks_the_file_and_the_runtime(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "a.onnx", "b.onnx", "c.weights")
    toml(folder, 'file = "b.onnx"')
    assert found(folder) == [("net", 1, "b.onnx", "onnx")]
    toml(folder, 'file = "c.weights"\nruntime = "mine"')
    assert found(folder) == [("net", 1, "c.weights", "mine")]
    toml(folder, 'file = "c.weights"')
    assert refusal(folder) == (
        "net: nothing tells which runtime loads 'c.weights'; write `runtime = ...` into model.toml"
    )


def test_the_runtime_picks_among_files(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "a.onnx", "b.pt")
    toml(folder, 'runtime = "torch"')
    assert found(folder) == [("net", 1, "b.pt", "torch")]
    toml(folder, 'runtime = "python"')
    assert "there is no model file in net" in refusal(folder)


def test_a_runtime_without_files_of_its_own_gets_the_folder(tmp_path: Path) -> None:
    folder = toml(tmp_path / "net", 'runtime = "mine"')
    assert found(folder) == [("net", 1, ".", "mine")]


def test_a_picked_model_py_stands_for_its_folder(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "1/inner/model.py", "1/a.onnx")
    toml(folder, 'file = "inner/model.py"')
    assert found(folder) == [("net", 1, "1/inner", "python")]


def test_a_versions_model_toml_comes_before_the_models(tmp_path: Path) -> None:
    folder = tree(tmp_path / "net", "1/a.onnx", "2/a.onnx", "2/b.onnx")
    toml(
        folder, 'file = "a.onnx"\nlabels = ["x"]\n[options]\ndevice = "cpu"\ninter_op_threads = 1\n'
    )
    toml(folder / "2", 'file = "b.onnx"\n[options]\ninter_op_threads = 2\n')
    first, second = scan_versions(folder, CLAIMS)
    assert (first.path.name, second.path.name) == ("a.onnx", "b.onnx")
    assert first.options == {"device": "cpu", "inter_op_threads": 1}
    assert second.options == {"device": "cpu", "inter_op_threads": 2}
    assert first.labels == second.labels == {"": ("x",)}


def test_a_model_toml_alone_is_no_model(tmp_path: Path) -> None:
    toml(tmp_path / "net", "")
    assert "there is no model file in net" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../secret.onnx", "{root}/secret.onnx", "link.onnx"])
def test_a_file_may_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "secret.onnx", "net/a.onnx")
    (tmp_path / "net" / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    toml(tmp_path / "net", f'file = "{name.format(root=tmp_path)}"')
    assert "leads out of the model's folder; copy it there" in refusal(tmp_path / "net")


@pytest.mark.parametrize("name", ["gone.onnx", "a\\u0000b", "loop"])
def test_a_file_must_be_there(tmp_path: Path, name: str) -> None:
    folder = toml(tmp_path / "net", f'file = "{name}"')
    (folder / "loop").symlink_to(folder / "loop")
    assert refusal(folder).startswith("net: there is no ")
