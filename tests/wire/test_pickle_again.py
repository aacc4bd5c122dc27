from __future__ import annotations

import pickle

import numpy as np
import pytest

from pelton.wire import pickled
from pelton.wire.limits import Limits
from pelton.wire.pickle_again import written_again
from pelton.wire.pickle_encode import Writer
from pelton.wire.pickled import PickleStyle

FRAME = PickleStyle(protocol=5, old_numpy=False, out_of_band=True)

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

FLAT = [
    {},
    {"status": "ok", "output": IMAGE},
    {"instruction": "go", "state": np.zeros(6, np.float32), "image": IMAGE},
    {"fortran": np.asfortranarray(IMAGE), "strided": IMAGE[:, ::2], "scalar": np.array(3.5)},
    {"empty": np.zeros((0, 3), ">f8"), "text": np.array(["a", "bc"]), "when": np.array(0, "M8[s]")},
    {"both": IMAGE, "again": IMAGE},
]


@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("value", FLAT)
def test_what_is_remembered_is_what_the_writer_writes(value: dict, old_numpy: bool) -> None:
    writer = Writer(5, old_numpy, lend_buffers=True)
    writer.value(value)
    expected = b"".join(writer.finish())
    for _ in range(2):
        opcodes, buffers = written_again(value, old_numpy)
        assert opcodes == expected
        assert [bytes(each) for each in buffers] == [bytes(each) for each in writer.buffers]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "x"}, {"a": "y"}),
        ({"a": "x"}, {"b": "x"}),
        ({"a": "x", "b": "y"}, {"b": "y", "a": "x"}),
        ({"a": IMAGE}, {"a": IMAGE.astype(np.int8)}),
        ({"a": IMAGE}, {"a": IMAGE.reshape(4, 2, 3)}),
        ({"a": IMAGE}, {"a": np.asfortranarray(IMAGE)}),
        ({"a": np.zeros(2, "<f4")}, {"a": np.zeros(2, ">f4")}),
        ({"a": np.zeros(2, "M8[s]")}, {"a": np.zeros(2, "M8[ms]")}),
        ({"a": "x", "b": IMAGE}, {"a": IMAGE, "b": "x"}),
    ],
)
def test_one_value_is_not_taken_for_another(one: dict, other: dict) -> None:
    limits = Limits()
    for value in (one, other, one):
        body = b"".join(pickled.encode(value, FRAME))
        decoded, _ = pickled.decode(body, limits)
        assert list(decoded) == list(value)
        for name, item in value.items():
            assert np.array_equal(decoded[name], item)
            assert getattr(decoded[name], "dtype", None) == getattr(item, "dtype", None)


@pytest.mark.parametrize(
    "value",
    [
        *([1], "x", None, IMAGE, {"a": 1}, {"a": True}, {"a": None}, {1: "a"}, {"a": [IMAGE]}),
        *({"a": b"x"}, {"a": "x" * 300}, {"k" * 300: "a"}, {"a": np.array(["x"], object)}),
        {"a": np.float32(1)},
    ],
)
def test_anything_else_is_written_in_full(value) -> None:
    assert written_again(value, old_numpy=False) is None


def test_metadata_is_refused_though_the_same_dtype_without_is_known() -> None:
    plain = {"a": np.zeros(2, np.float32)}
    pickled.encode(plain, FRAME)
    with pytest.raises(TypeError, match="an array or scalar of float32"):
        pickled.encode({"a": np.zeros(2, np.dtype("f4", metadata={"a": 1}))}, FRAME)


def test_the_standard_library_reads_it() -> None:
    opcodes, buffers = written_again({"output": IMAGE}, old_numpy=False)
    assert np.array_equal(pickle.loads(opcodes, buffers=buffers)["output"], IMAGE)
