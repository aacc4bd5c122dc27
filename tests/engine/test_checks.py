"""What a model gets is exactly what it declares; anything else is refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.fake_models import described
from pelton.engine.checks import checked_inputs
from pelton.errors import Code, InvalidRequest
from pelton.specs import TensorSpec
from pelton.tensors import DATATYPES

IMAGE = TensorSpec("image", "UINT8", (-1, -1, 3))
STATE = TensorSpec("state", "FP32", (6,))
WORDS = TensorSpec("words", "BYTES", (-1,))
ROBOT = described(STATE, IMAGE, name="robot")

GOOD_STATE = np.arange(6, dtype=np.float32)
GOOD_IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_good_inputs_come_back_themselves_in_declared_order() -> None:
    checked = checked_inputs({"image": GOOD_IMAGE, "state": GOOD_STATE}, ROBOT)
    assert list(checked) == ["state", "image"]
    assert checked["state"] is GOOD_STATE
    assert checked["image"] is GOOD_IMAGE


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param(
            {"state": GOOD_STATE},
            "input 'image' is missing; model 'robot' takes state FP32 [6], image UINT8 [-1, -1, 3]",
            id="missing",
        ),
        pytest.param(
            {"state": GOOD_STATE, "image": None},
            "input 'image' is missing; model 'robot' takes state FP32 [6], image UINT8 [-1, -1, 3]",
            id="none",
        ),
        pytest.param(
            {"state": GOOD_STATE, "image": GOOD_IMAGE, "depth": GOOD_IMAGE},
            "model 'robot' has no input 'depth'; it takes state FP32 [6], image UINT8 [-1, -1, 3]",
            id="unknown",
        ),
        pytest.param(
            {"state": [0.0] * 6, "image": GOOD_IMAGE},
            "input 'state' is a list, but the model wants an array",
            id="list",
        ),
        pytest.param(
            {"state": np.float32(1), "image": GOOD_IMAGE},
            "input 'state' is a float32, but the model wants an array",
            id="numpy-scalar",
        ),
        pytest.param(
            {"state": GOOD_STATE.astype(np.float64), "image": GOOD_IMAGE},
            "input 'state' is FP64, but the model wants FP32",
            id="datatype",
        ),
        pytest.param(
            {"state": GOOD_STATE.astype(">f8"), "image": GOOD_IMAGE},
            "input 'state' is FP64, but the model wants FP32",
            id="big-endian-datatype",
        ),
        pytest.param(
            {"state": GOOD_STATE, "image": GOOD_IMAGE.view(np.int8)},
            "input 'image' is INT8, but the model wants UINT8",
            id="same-size-datatype",
        ),
        pytest.param(
            {"state": GOOD_STATE.astype(complex), "image": GOOD_IMAGE},
            "an array of complex128 has no datatype in the protocol",
            id="complex",
        ),
        pytest.param(
            {"state": GOOD_STATE.astype(object), "image": GOOD_IMAGE},
            "input 'state' is BYTES, but the model wants FP32",
            id="objects",
        ),
        pytest.param(
            {"state": GOOD_STATE[:5], "image": GOOD_IMAGE},
            "input 'state' has shape [5], but the model wants [6]",
            id="size",
        ),
        pytest.param(
            {"state": GOOD_STATE[None], "image": GOOD_IMAGE},
            "input 'state' has shape [1, 6], but the model wants [6]",
            id="rank",
        ),
        pytest.param(
            {"state": GOOD_STATE[0:1].reshape(()), "image": GOOD_IMAGE},
            "input 'state' has shape [], but the model wants [6]",
            id="scalar-shape",
        ),
        pytest.param(
            {"state": GOOD_STATE, "image": GOOD_IMAGE.reshape(3, 2, 4)},
            "input 'image' has shape [3, 2, 4], but the model wants [-1, -1, 3]",
            id="last-axis",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(inputs, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{re.escape(message)}$") as caught:
        checked_inputs(inputs, ROBOT)
    assert caught.value.code is Code.INVALID_INPUT


def test_a_message_is_bounded_however_long_the_callers_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_inputs({"x" * 100_000: GOOD_STATE, "state": GOOD_STATE, "image": GOOD_IMAGE}, ROBOT)
    assert len(caught.value.message) < 300


def test_a_message_is_bounded_however_many_inputs_the_model_has() -> None:
    many = described(*[TensorSpec(f"x{index}", "FP32", (1,)) for index in range(500)])
    with pytest.raises(InvalidRequest, match=r"input 'x0' is missing.*x15 FP32 \[1\]$"):
        checked_inputs({}, many)


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_an_open_dimension_takes_any_size(size: int) -> None:
    image = np.zeros((size, 2, 3), np.uint8)
    assert checked_inputs({"image": image}, described(IMAGE))["image"].shape == (size, 2, 3)


@pytest.mark.parametrize(("size", "fits"), [(0, True), (1, False)])
def test_a_dimension_that_is_declared_empty_takes_nothing_else(size: int, fits: bool) -> None:
    spec, value = TensorSpec("x", "UINT8", (0,)), np.zeros(size, np.uint8)
    if fits:
        assert checked_inputs({"x": value}, described(spec))["x"] is value
    else:
        with pytest.raises(InvalidRequest, match=r"has shape \[1\], but the model wants \[0\]"):
            checked_inputs({"x": value}, described(spec))


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
def test_every_datatype_is_taken_in_its_own_dtype(datatype: str) -> None:
    value = np.ones(3, DATATYPES[datatype].dtype)
    spec = TensorSpec("x", datatype, (3,))
    assert checked_inputs({"x": value}, described(spec))["x"] is value


def test_byte_strings_are_taken_as_they_are() -> None:
    words = np.array([b"a", b"", b"\xff\x00"], object)
    assert checked_inputs({"words": words}, described(WORDS))["words"] is words


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(lambda a: a.astype(">f4"), id="big-endian"),
        pytest.param(np.asfortranarray, id="fortran"),
        pytest.param(lambda a: np.asfortranarray(a.astype(">f4")), id="big-endian-fortran"),
        pytest.param(lambda a: np.repeat(a, 2, axis=1)[:, ::2], id="strided"),
        pytest.param(lambda a: a[::-1].copy()[::-1], id="reversed"),
        pytest.param(lambda a: np.broadcast_to(a[:1], a.shape), id="broadcast"),
    ],
)
def test_any_memory_layout_reaches_the_model_as_plain_rows(layout) -> None:
    spec = TensorSpec("x", "FP32", (3, 4))
    sent = layout(np.arange(12, dtype=np.float32).reshape(3, 4))
    taken = checked_inputs({"x": sent}, described(spec))["x"]
    assert taken.dtype == np.dtype("<f4")
    assert taken.flags.c_contiguous
    np.testing.assert_array_equal(taken, sent)


def test_a_read_only_view_is_not_copied() -> None:
    body = memoryview(b"head" + GOOD_STATE.tobytes())
    view = np.frombuffer(body[4:], np.float32)
    taken = checked_inputs({"state": view}, described(STATE))["state"]
    assert taken is view
    assert not taken.flags.writeable


def test_a_scalar_tensor_stays_a_scalar() -> None:
    scalar = np.array(3.0, ">f4")
    taken = checked_inputs({"x": scalar}, described(TensorSpec("x", "FP32", ())))["x"]
    assert taken.shape == ()
    assert taken.dtype == np.dtype("<f4")


def test_a_model_without_inputs_takes_none() -> None:
    assert checked_inputs({}, described()) == {}
    with pytest.raises(InvalidRequest, match="has no input 'x'"):
        checked_inputs({"x": GOOD_STATE}, described())


def test_an_object_model_gets_the_inputs_as_they_came() -> None:
    inputs = {"instruction": "open", "state": [1, None], "image": GOOD_IMAGE[::-1]}
    assert checked_inputs(inputs, described(STATE, takes_objects=True)) is inputs
