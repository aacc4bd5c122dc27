"""Golden requests: from `model.toml` to arrays as the model takes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pelton.errors import LoadFailed
from pelton.repository.golden import load_golden
from pelton.repository.model_toml import read_model_toml
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import Golden, GoldenSource, ModelMetadata, TensorSpec
from pelton.tensors import DATATYPES
from repository.array_files import header, npy, saved
from repository.folders import CLAIMS, toml, tree
from support_server import matmul_weights, write_matmul


def metadata(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = ()) -> ModelMetadata:
    return ModelMetadata("net", "3", "test", inputs, outputs)


X = TensorSpec("x", "FP32", (-1, 2))
Y = TensorSpec("y", "INT64", (-1,))


def read(folder: Path, text: str) -> tuple[GoldenSource, ...]:
    return read_model_toml(toml(folder, text), "net").golden


def refused_row(folder: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        read(folder, text)
    assert error.value.message.startswith("net/model.toml: ")
    return error.value.message.removeprefix("net/model.toml: ")


def loaded(inputs: object, *specs: TensorSpec) -> dict[str, np.ndarray]:
    source = GoldenSource("one", inputs)  # type: ignore[arg-type]
    return dict(load_golden(source, metadata(*specs)).inputs)


def refusal(inputs: object, *specs: TensorSpec, expected: object = None) -> str:
    source = GoldenSource("one", inputs, expected)  # type: ignore[arg-type]
    with pytest.raises(LoadFailed) as error:
        load_golden(source, metadata(*specs, outputs=(Y,)))
    told = "golden request 'one' of model 'net' version 3: "
    assert error.value.message.startswith(told)
    assert "\n" not in error.value.message
    return error.value.message.removeprefix(told)


# Rows of model.toml.


def test_every_key_of_a_row_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "want.npz", y=np.arange(2))
    first, second = read(
        tmp_path,
        """
        [[golden]]
        name = "two rows"
        inputs = {x = [[1, 2], [3, 4.5]]}
        outputs = "want.npz"
        atol = 0
        rtol = 0.01
        agreement = 1
        latency_factor = 3

        [[golden]]
        name = "bare"
        [golden.inputs]
        x = [[1, 2]]
        """,
    )
    assert first == GoldenSource(
        "two rows",
        {"x": [[1, 2], [3, 4.5]]},
        tmp_path / "want.npz",
        {"atol": 0.0, "rtol": 0.01, "agreement": 1.0, "latency_factor": 3.0},
    )
    assert second == GoldenSource("bare", {"x": [[1, 2]]})
    golden = load_golden(first, metadata(X, outputs=(Y,)))
    assert (golden.name, golden.atol, golden.rtol) == ("two rows", 0.0, 0.01)
    assert (golden.agreement, golden.latency_factor) == (1.0, 3.0)
    np.testing.assert_array_equal(
        golden.inputs["x"], np.array([[1, 2], [3, 4.5]], np.float32), strict=True
    )
    assert golden.expected is not None
    np.testing.assert_array_equal(golden.expected["y"], np.arange(2), strict=True)
    bare = load_golden(second, metadata(X))
    assert bare.expected is None
    assert (bare.atol, bare.rtol) == (Golden.__dataclass_fields__["atol"].default, 1e-3)


ROW = "[[golden]]\nname = 'a'\ninputs = {x = 1}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("golden = 1", "`golden` must be written as [[golden]]"),
        ("golden = [1]", "golden must be written as [[golden]]"),
        (ROW + "tolerance = 1", "unknown key `tolerance` in [[golden]]"),
        (ROW + "latency = 1", "did you mean `latency_factor`?"),
        ("[[golden]]\nname = 'a'", "every one of [[golden]] needs `inputs`"),
        ("[[golden]]\ninputs = {x = 1}", "every one of [[golden]] needs `name`"),
        (ROW + ROW, "two of [[golden]] are called 'a'"),
        (ROW + "atol = -1", "`atol` in [[golden]] is -1; it must be a number"),
        (ROW + "rtol = nan", "`rtol` in [[golden]] is nan; it must be a number"),
        (ROW + "agreement = 1.5", "`agreement` in [[golden]] is 1.5; it must be a share from 0"),
        (ROW + "agreement = true", "it must be a share from 0"),
        (ROW + "latency_factor = 'x'", "it must be a number of times"),
        ("[[golden]]\nname = ''\ninputs = {x = 1}", "`name` in [[golden]] is ''; it must be a te"),
        ('[[golden]]\nname = "a\\nb"\ninputs = {x = 1}', "it must be a text of 1 to 80"),
        ("[[golden]]\nname = 'a'\ninputs = [1]", "it must be a file, or a table with the nested"),
        ("[[golden]]\nname = 'a'\ninputs = {}", "it must be a file, or a table with the nested"),
        ("[[golden]]\nname = 'a'\ninputs = 'gone.npz'", "there is no 'gone.npz' in the model's fo"),
        ("[[golden]]\nname = 'a'\ninputs = '../up.npz'", "'../up.npz' leads out of the model's"),
        ("[[golden]]\nname = 'a'\ninputs = 'x.pkl'", "'x.pkl' is no file of arrays; known are .np"),
        ("".join(ROW.replace("'a'", f"'{i}'") for i in range(257)), "there are 257 of [[golden]]"),
    ],
)
def test_a_row_that_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    tree(tmp_path, "up.npz", "net/x.pkl")
    assert said in refused_row(tmp_path / "net", text)


def test_a_versions_rows_come_before_the_models(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/m.onnx")
    toml(tmp_path / "net", ROW)
    (spec,) = scan(tmp_path, CLAIMS)
    assert [golden.name for golden in spec.golden] == ["a"]
    toml(tmp_path / "net/1", ROW.replace("'a'", "'b'"))
    (spec,) = scan(tmp_path, CLAIMS)
    assert [golden.name for golden in spec.golden] == ["b"]


# Nested lists as arrays.


@pytest.mark.parametrize("name", [name for name in DATATYPES if name not in ("BOOL", "BYTES")])
def test_numbers_become_what_the_model_takes(name: str) -> None:
    x = loaded({"x": [[1, 2], [3, 4]]}, TensorSpec("x", name, (-1, 2)))["x"]
    np.testing.assert_array_equal(x, np.array([[1, 2], [3, 4]], DATATYPES[name].dtype), strict=True)


def test_other_elements_become_what_the_model_takes() -> None:
    got = loaded(
        {"flags": [True, False], "texts": [["a", "\u732b"]], "one": 2.5, "none": []},
        TensorSpec("flags", "BOOL", (2,)),
        TensorSpec("texts", "BYTES", (-1, -1)),
        TensorSpec("one", "FP64", ()),
        TensorSpec("none", "INT8", (-1,)),
    )
    assert got["flags"].tolist() == [True, False]
    assert got["flags"].dtype == np.bool_
    assert got["texts"].tolist() == [[b"a", "\u732b".encode()]]
    assert (got["one"].shape, got["one"].dtype) == ((), np.float64)
    assert (got["none"].shape, got["none"].dtype) == ((0,), np.int8)


def test_a_model_that_declares_nothing_takes_anything() -> None:
    got = loaded({"a": [1], "b": [1.5], "c": ["t"], "d": [True], "e": [1, 1.5]})
    assert {name: array.dtype.name for name, array in got.items()} == {
        "a": "int64",
        "b": "float64",
        "c": "object",
        "d": "bool",
        "e": "float64",
    }


@pytest.mark.parametrize(
    ("value", "datatype", "said"),
    [
        ([1.5, 2], "INT64", "input 'x': a value of type float is no element of INT64"),
        ([True, 2], "INT64", "input 'x': a value of type bool is no element of INT64"),
        (["1", 2], "FP32", "input 'x': a value of type str is no element of FP32"),
        ([1, 2], "BYTES", "input 'x': a value of type int is no element of BYTES"),
        ([1, 2], "BOOL", "input 'x': a value of type int is no element of BOOL"),
        ([None, 1], "FP32", "input 'x': a value of type NoneType is no element of FP32"),
        ([256, 1], "UINT8", "input 'x': a number is out of the range of UINT8"),
        ([-1, 1], "UINT64", "input 'x': a number is out of the range of UINT64"),
        ([2**200, 1], "INT64", "input 'x': a number is out of the range of INT64"),
        ([1e39, 1], "FP32", "input 'x': a number is out of the range of FP32"),
        ([10**400, 1], "FP64", "input 'x': a number is out of the range of FP64"),
        (["\ud800", "b"], "BYTES", "input 'x': a text holds half of a surrogate pair"),
        ([[1], [1, 2]], "FP32", "its nested lists are of unequal length or depth"),
        ([1, [2]], "FP32", "its nested lists are of unequal length or depth"),
        ([{"a": 1}, 1], "FP32", "its nested lists are of unequal length or depth"),
        ([1, 2, 3], "FP32", "input 'x': its shape is [3], and the model's [2]"),
        ([[1, 2]], "FP32", "input 'x': its shape is [1, 2], and the model's [2]"),
    ],
)
def test_what_is_no_such_tensor_is_refused(value: object, datatype: str, said: str) -> None:
    assert said in refusal({"x": value}, TensorSpec("x", datatype, (2,)))


def test_very_deep_lists_are_refused() -> None:
    value: object = 1
    for _ in range(500):
        value = [value]
    assert "unequal length or depth" in refusal({"x": value}, TensorSpec("x", "FP32", (-1,)))


def test_names_must_be_the_models() -> None:
    assert refusal({"z": [[1, 2]]}, X) == "input 'z' is unknown; the model has x"
    both = (X, TensorSpec("z", "FP32", (1,)))
    assert refusal({"x": [[1, 2]]}, *both) == "there is no input 'z'"
    assert refusal({"x": [[1, 2]]}, X, expected={"x": [1]}) == (
        "output 'x' is unknown; the model has y"
    )


# Files.


def test_each_kind_of_file_is_read(tmp_path: Path) -> None:
    want = np.array([[1, 2]], np.float32)
    np.save(tmp_path / "x.npy", want)
    saved(tmp_path / "x.npz", x=want)
    (tmp_path / "x.json").write_text(json.dumps({"x": [[1, 2]]}))
    for suffix in (".npy", ".npz", ".json"):
        np.testing.assert_array_equal(loaded(tmp_path / f"x{suffix}", X)["x"], want, strict=True)


def test_arrays_are_laid_out_as_models_want_them(tmp_path: Path) -> None:
    want = np.arange(6, dtype=np.int32).reshape(3, 2)
    np.save(tmp_path / "x.npy", np.asfortranarray(want).astype(">i4"))
    x = loaded(tmp_path / "x.npy", TensorSpec("x", "INT32", (-1, 2)))["x"]
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, want, strict=True)


def test_texts_in_files_become_bytes(tmp_path: Path) -> None:
    spec = TensorSpec("x", "BYTES", (-1,))
    for array in (np.array(["a", "\u732b"]), np.array([b"a", "\u732b".encode()])):
        np.save(tmp_path / "x.npy", array)
        assert loaded(tmp_path / "x.npy", spec)["x"].tolist() == [b"a", "\u732b".encode()]


def test_a_file_with_other_types_is_not_converted(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=np.zeros((1, 2)))
    assert refusal(path, X) == "input 'x': it holds FP64, and the model has FP32; save it as such"
    wide = TensorSpec("x", "BF16", (-1, 2))
    path = saved(tmp_path / "x.npz", x=np.zeros((1, 2), np.float32))
    assert loaded(path, wide)["x"].dtype == np.float32


def test_one_array_without_a_name_needs_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    said = refusal(tmp_path / "x.npy", X, TensorSpec("z", "FP32", (1,)))
    assert said == (
        "input: a .npy holds one array without a name, and the model has 2 inputs; "
        "save them as .npz"
    )


def test_a_broken_file_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(header(shape="(8589934592,)"), b""))
    assert refusal(tmp_path / "x.npy", X) == (
        "input: 'x.npy' holds an array whose shape does not fit the bytes that are there"
    )


def test_a_real_model_answers_its_golden_request(tmp_path: Path) -> None:
    write_matmul(tmp_path / "net/1/model.onnx", 2, 3)
    x = np.array([[1, 2], [3, 4]], np.float32)
    saved(tmp_path / "net/1/want.npz", y=x @ matmul_weights(2, 3))
    toml(
        tmp_path / "net/1",
        "[[golden]]\nname = 'a'\ninputs = {x = [[1, 2], [3, 4]]}\noutputs = 'want.npz'\n",
    )
    (spec,) = scan(tmp_path, registry.claims())
    model = registry.load(spec, RuntimeOptions())
    golden = load_golden(spec.golden[0], model.metadata)
    given = model.run(dict(golden.inputs))
    model.close()
    assert golden.expected is not None
    np.testing.assert_array_equal(given["y"], golden.expected["y"], strict=True)
