from __future__ import annotations

import io
import json
import logging
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelton.errors import InvalidRequest, LoadFailed, ModelFailed
from pelton.runtimes.contract import LoadedModel, RuntimeOptions
from pelton.runtimes.torch.file import TorchFormat, torch_format
from pelton.runtimes.torch.model import load
from pelton.specs import ModelSpec, TensorSpec
from runtimes.torch_files import Double, exported, exported_double, scripted

X = np.array([[1, 2]], np.float32)


def opened(path: Path, server: RuntimeOptions | None = None, **spec: Any) -> LoadedModel:
    return load(ModelSpec("m", 1, path, "torch", **spec), server or RuntimeOptions())


def refusal(path: Path, **spec: Any) -> str:
    with pytest.raises(LoadFailed) as error:
        opened(path, **spec)
    return error.value.message


# Exported programs.


def test_metadata_comes_from_the_exported_signature(tmp_path: Path) -> None:
    path = exported_double(tmp_path / "m.pt2")
    told = opened(path).metadata
    assert told.inputs == (TensorSpec("x", "FP32", (-1, 2)),)
    assert told.outputs == (TensorSpec("output", "FP32", (-1, 2)),)
    assert (told.platform, told.model_type) == ("pytorch_export", "torch.export")
    assert (told.parameters, told.trainable_parameters) == (2, 2)
    assert (told.device, told.size_bytes) == ("cpu", path.stat().st_size)
    assert not told.takes_objects


class Robot(torch.nn.Module):
    def forward(self, obs: dict[str, torch.Tensor], gain: float, mode: Any = None) -> Any:
        image = obs["image"].to(torch.float32).mean()
        return {"action": obs["state"] * gain + image, "parts": (obs["image"], None, 3, [image])}


def test_nested_arguments_and_results_are_named(tmp_path: Path) -> None:
    example = (
        {"image": torch.zeros(2, 2, dtype=torch.uint8), "state": torch.zeros(3)},
        0.5,
    )
    model = opened(exported(tmp_path / "m.pt2", Robot(), example))
    assert model.metadata.inputs == (
        TensorSpec("obs_image", "UINT8", (2, 2)),
        TensorSpec("obs_state", "FP32", (3,)),
    )
    assert [(spec.name, spec.shape) for spec in model.metadata.outputs] == [
        ("action", (3,)),
        ("parts_0", (2, 2)),
        ("parts_3_0", ()),
    ]
    image = np.array([[1, 2], [3, 6]], np.uint8)
    given = model.run({"obs_state": np.ones(3, np.float32), "obs_image": image})
    assert given["action"].tolist() == [3.5, 3.5, 3.5]
    assert given["parts_0"].tolist() == image.tolist()
    assert given["parts_3_0"] == np.float32(3)


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x - 1


def test_several_results_are_numbered(tmp_path: Path) -> None:
    model = opened(exported(tmp_path / "m.pt2", Pair(), (torch.zeros(1, 2),)))
    given = model.run({"x": X})
    assert {name: array.tolist() for name, array in given.items()} == {
        "output_0": [[2, 3]],
        "output_1": [[0, 1]],
    }


def test_bfloat16_goes_in_and_comes_out_as_float32(tmp_path: Path) -> None:
    example = (torch.zeros(1, 2, dtype=torch.bfloat16),)
    model = opened(exported(tmp_path / "m.pt2", Pair(), example))
    assert model.metadata.inputs == (TensorSpec("x", "BF16", (1, 2)),)
    given = model.run({"x": np.array([[1.00390625, 2]], np.float32)})["output_0"]
    assert (given.dtype, given.tolist()) == (np.float32, [[2.0, 3.0]])


class Writes(torch.nn.Module):
    """Writes to its input, and returns a view of its own buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        self.total.add_(x[0])
        return self.total


def test_a_model_that_writes_harms_nobody(tmp_path: Path) -> None:
    model = opened(exported(tmp_path / "m.pt2", Writes(), (torch.zeros(1, 2),)))
    mine = X.copy()
    first = model.run({"x": mine})["output"]
    second = model.run({"x": mine})["output"]
    assert mine.tolist() == X.tolist()
    assert (first.tolist(), second.tolist()) == ([2, 4], [4, 8])


def test_a_size_that_the_program_was_not_exported_for(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    path = exported(
        tmp_path / "m.pt2", Double(), (torch.zeros(3, 2),), dynamic_shapes=({0: batch},)
    )
    with pytest.raises(InvalidRequest) as error:
        opened(path).run({"x": np.zeros((9, 2), np.float32)})
    assert error.value.message == (
        "the model was exported for inputs with x.size()[0] <= 8, which does not hold here"
    )


def test_declared_shapes_must_fit_the_program(tmp_path: Path) -> None:
    path = exported_double(tmp_path / "m.pt2")
    narrow = TensorSpec("x", "FP32", (4, 2))
    assert opened(path, inputs=(narrow,)).metadata.inputs == (narrow,)
    wrong = TensorSpec("x", "FP32", (4, 3))
    assert "declares the input 'x' as FP32 [4, 3]" in refusal(path, inputs=(wrong,))


class Complex(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.complex(x, x)


def test_types_that_cannot_be_sent_are_refused(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.pt2", Complex(), (torch.zeros(1, 2),))
    assert "the output 'output' is of type torch.complex64, which cannot be sent" in refusal(path)


def test_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return {"a_b": x + 1, "a": {"b": x - 1}}

    path = exported(tmp_path / "m.pt2", Same(), (torch.zeros(1, 2),))
    assert "two outputs of the model would have the same name" in refusal(path)


# Files that are something else, or unsafe.


def written(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_formats_are_told_by_their_contents(tmp_path: Path) -> None:
    assert torch_format(exported_double(tmp_path / "e.pt2")) is TorchFormat.EXPORTED
    assert torch_format(scripted(tmp_path / "s.pt", Double())) is TorchFormat.SCRIPT
    renamed = exported_double(tmp_path / "m.pt2").rename(tmp_path / "m.pt")
    assert opened(renamed).run({"x": X})["output"].tolist() == [[2, 4]]


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    torch.save(Double().state_dict(), tmp_path / "m.pth")
    said = refusal(tmp_path / "m.pth")
    assert said.startswith("m.pth was written by torch.save and holds weights or a pickled object")
    assert "torch.export.save" in said


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"m/x": b""}, "is a zip archive but no PyTorch model"),
        ({"version": b"1", "serialized_exported_program.json": b"{}"}, "PyTorch 2.7 and older"),
        ({"m/archive_format": b"pt2", "m/data/aotinductor/m/a.so": b""}, "AOTInductor"),
        ({"m/archive_format": b"pt2"}, "PyTorch cannot load m.pt2 (exported program): "),
        ({"m/constants.pkl": b""}, "PyTorch cannot load m.pt2 (TorchScript): "),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, entries: dict[str, bytes], said: str) -> None:
    message = refusal(written(tmp_path / "m.pt2", entries))
    assert said in message
    assert "\n" not in message
    assert str(tmp_path) not in message


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({"a": 1}, protocol=2)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(data)
    assert "m.pt is no PyTorch archive, or was cut short" in refusal(tmp_path / "m.pt")


@pytest.mark.parametrize("entry", ["models/model.json", "data/sample_inputs/model.pt"])
def test_a_broken_program_is_refused_without_a_traceback(
    tmp_path: Path, entry: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = rewritten(exported_double(tmp_path / "a.pt2"), entry, lambda _: None)
    caplog.clear()
    assert refusal(path).startswith("PyTorch cannot load m.pt2 (exported program): ")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def rewritten(path: Path, entry: str, change: Callable[[bytes], bytes | None]) -> Path:
    """Copy an archive with one entry changed, or left out where the change is None."""
    target = path.with_name("m.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            inner = info.filename.partition("/")[2]
            changed = change(data) if inner == entry else data
            if changed is not None:
                new.writestr(info.filename, changed)
    return target


class Marks:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def config_with(**changes: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        config = json.loads(data)
        for payload in config["config"].values():
            payload.update(changes)
        return json.dumps(config).encode()

    return change


WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def pickled_sample(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(((Marks(mark),), {}), buffer)
    return buffer.getvalue()


def test_pickles_in_a_program_are_never_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = pickle.dumps(Marks(mark))
    path = exported_double(tmp_path / "a.pt2")
    constant = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    changes: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("data/sample_inputs/model.pt", lambda _: pickled_sample(mark)),
        ("data/sample_inputs/model.pt", lambda _: evil),
        (WEIGHTS, config_with(use_pickle=True)),
        (WEIGHTS, config_with(path_name="custom_obj_0")),
        (CONSTANTS, lambda _: json.dumps({"config": {"c": constant}}).encode()),
    ]
    for entry, change in changes:
        said = refusal(rewritten(path, entry, change))
        assert said.startswith("m.pt2 holds pickled objects"), said
    legacy = rewritten(path, "", lambda data: data)
    with zipfile.ZipFile(legacy, "a") as archive:
        archive.writestr("a/data/weights/model.pt", evil)
    assert refusal(legacy).startswith("m.pt2 holds pickled objects")
    assert not mark.exists()


def test_the_mark_would_be_left_by_pytorch_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above is worth something: PyTorch alone does load such a pickle."""
    mark = tmp_path / "mark"
    path = exported_double(tmp_path / "a.pt2")
    path = rewritten(path, "data/sample_inputs/model.pt", lambda _: pickled_sample(mark))
    # Its warning about it has too few arguments to be formatted.
    log = logging.getLogger("torch._export.serde.serialize")
    monkeypatch.setattr(log, "disabled", True)
    torch.export.load(path)
    assert mark.exists()


# TorchScript.


class Options(torch.nn.Module):
    def forward(self, x: torch.Tensor, times: int = 3) -> dict[str, torch.Tensor]:
        return {"y": x * times}


def test_torchscript_is_loaded_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pelton.runtimes"):
        model = opened(scripted(tmp_path / "m.pt", Double()))
    assert "m.pt is TorchScript, which PyTorch has deprecated" in caplog.text
    assert model.metadata.takes_objects
    assert (model.metadata.inputs, model.metadata.outputs) == ((), ())
    assert model.metadata.platform == "pytorch_torchscript"


def test_undeclared_torchscript_takes_its_arguments_by_name(tmp_path: Path) -> None:
    model = opened(scripted(tmp_path / "m.pt", Options()))
    assert model.run({"x": X})["y"].tolist() == [[3, 6]]
    assert model.run({"x": X, "times": 2})["y"].tolist() == [[2, 4]]
    with pytest.raises(InvalidRequest, match="the model takes times, x, but z came"):
        model.run({"z": X})
    with pytest.raises(InvalidRequest, match="the model takes times, x, but nothing came"):
        model.run({})
    with pytest.raises(InvalidRequest, match="input 'x' is an array of object"):
        model.run({"x": np.array([b"a"], np.object_)})


def test_undeclared_torchscript_of_one_argument_takes_any_name(tmp_path: Path) -> None:
    model = opened(scripted(tmp_path / "m.pt", Pair()))
    given = model.run({"anything": X.astype(">f4")})
    assert {name: array.tolist() for name, array in given.items()} == {
        "output_0": [[2, 3]],
        "output_1": [[0, 1]],
    }


def test_declared_torchscript_is_a_tensor_model(tmp_path: Path) -> None:
    path = scripted(tmp_path / "m.pt", Pair())
    outputs = tuple(TensorSpec(name, "FP32", (-1, 2)) for name in ("more", "less"))
    model = opened(path, inputs=(TensorSpec("image", "FP32", (-1, 2)),), outputs=outputs)
    assert not model.metadata.takes_objects
    given = model.run({"image": X})
    assert {name: array.tolist() for name, array in given.items()} == {
        "more": [[2, 3]],
        "less": [[0, 1]],
    }


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (("FP32", (-1, 3)), "output 'more' has shape [1, 2], but it is declared with [-1, 3]"),
        (("FP32", (2,)), "output 'more' has shape [1, 2], but it is declared with [2]"),
        (("INT64", (-1, 2)), "output 'more' is float32, but it is declared as INT64"),
    ],
)
def test_what_torchscript_gives_must_be_what_is_declared(tmp_path: Path, declared, said) -> None:
    outputs = (TensorSpec("more", *declared), TensorSpec("less", "FP32", (-1, 2)))
    path = scripted(tmp_path / "m.pt", Pair())
    model = opened(path, inputs=(TensorSpec("image", "FP32", (-1, 2)),), outputs=outputs)
    with pytest.raises(ModelFailed, match=re.escape(said)):
        model.run({"image": X})


def test_declarations_of_torchscript_must_be_complete(tmp_path: Path) -> None:
    path = scripted(tmp_path / "m.pt", Pair())
    one = TensorSpec("x", "FP32", (-1, 2))
    assert "declares 1 inputs and 0 outputs, but the model takes x" in refusal(path, inputs=(one,))
    two = (one, TensorSpec("z", "FP32", ()))
    assert "declares 2 inputs" in refusal(path, inputs=two, outputs=(one,))


# Options.


def test_threads_are_the_process_own(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        opened(exported_double(tmp_path / "m.pt2"), RuntimeOptions(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    said = refusal(tmp_path / "m.pt2", options={"inter_op_threads": 1})
    assert said == "the torch runtime has no option 'inter_op_threads'; it knows device"


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = exported_double(tmp_path / "m.pt2")
    beyond = torch.cuda.device_count()
    said = refusal(path, options={"device": f"cuda:{beyond}"})
    assert f"the model is to run on cuda:{beyond}, but there is" in said
    assert "or use the device cpu" in said


# Deterministic mode.


class Dice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(2)


@pytest.mark.parametrize("deterministic", [True, False])
def test_each_run_begins_with_the_same_random_numbers(tmp_path: Path, deterministic: bool) -> None:
    path = exported(tmp_path / "m.pt2", Dice(), (torch.zeros(1, 2),))
    before = torch.are_deterministic_algorithms_enabled()
    try:
        model = opened(path, RuntimeOptions(deterministic=deterministic))
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        first, second = (model.run({"x": X})["output"].tolist() for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(before)
    assert (first == second) is deterministic
