from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pelton.errors import LoadFailed
from pelton.runtimes.choices import choose_device, own_options
from pelton.runtimes.declared import reconcile
from pelton.specs import ModelSpec, TensorSpec

KNOWN = {"device": str, "threads": int, "spin": bool}


def options(**values: Any) -> dict[str, Any]:
    return own_options(ModelSpec("m", 1, Path("m"), "onnx", options=values), KNOWN)


def test_known_options_are_returned() -> None:
    assert options(device="cpu", threads=0, spin=True) == {
        "device": "cpu",
        "threads": 0,
        "spin": True,
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"thread": 1}, "the onnx runtime has no option 'thread'; did you mean 'threads'?"),
        ({"zzz": 1}, "the onnx runtime has no option 'zzz'; it knows device, spin, threads"),
        ({"threads": True}, "option 'threads' of model 'm' is True; it must be a whole number"),
        ({"threads": -1}, "option 'threads' of model 'm' is -1, below 0"),
        ({"spin": 1}, "option 'spin' of model 'm' is 1; it must be true or false"),
        ({"device": 0}, "option 'device' of model 'm' is 0; it must be text in quotes"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadFailed) as refusal:
        options(**values)
    assert refusal.value.message == message


@pytest.mark.parametrize(
    ("asked", "devices", "chosen"),
    [
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda:7", math.inf, "cuda:7"),
    ],
)
def test_devices_are_chosen(asked: str, devices: float, chosen: str) -> None:
    assert choose_device(asked, devices, "buy one") == chosen


@pytest.mark.parametrize(
    ("asked", "devices", "message"),
    [
        (
            "cuda:0",
            0,
            "the model is to run on cuda:0, but there is no such device here; buy one",
        ),
        (
            "cuda:2",
            2,
            "the model is to run on cuda:2, but there is only 2 of them here; buy one",
        ),
        (
            "gpu",
            1,
            "unknown device 'gpu'; known are cpu, cuda:0, cuda:1, ... and auto",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(asked: str, devices: int, message: str) -> None:
    with pytest.raises(LoadFailed) as refusal:
        choose_device(asked, devices, "buy one")
    assert refusal.value.message == message


TOLD = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "INT64", ()))


def declaring(*inputs: TensorSpec) -> ModelSpec:
    return ModelSpec("m", 1, Path("m"), "onnx", inputs)


def test_a_declaration_narrows_what_the_file_leaves_open() -> None:
    narrow = TensorSpec("a", "FP32", (8, 3))
    assert reconcile(TOLD, declaring(narrow), "input") == (narrow, TOLD[1])
    assert reconcile(TOLD, declaring(narrow), "output") == TOLD
    assert reconcile(TOLD, declaring(), "input") == TOLD


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (TensorSpec("c", "FP32", (1,)), "declares the input 'c', but the model has a, b"),
        (TensorSpec("a", "FP64", (-1, 3)), r"as FP64 \[-1, 3\], but .* FP32 \[-1, 3\]"),
        (TensorSpec("a", "FP32", (-1, 4)), r"FP32 \[-1, 4\], but"),
        (TensorSpec("a", "FP32", (-1, -1)), r"FP32 \[-1, -1\], but"),
        (TensorSpec("a", "FP32", (3,)), r"FP32 \[3\], but"),
    ],
)
def test_a_declaration_may_not_contradict_the_file(declared: TensorSpec, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        reconcile(TOLD, declaring(declared), "input")
