"""What is written: without copies, in the client's style, and only plain data."""

from __future__ import annotations

import collections
import datetime as dt
import pickle
import pickletools

import numpy as np
import pytest

from pelton.wire.limits import Limits
from pelton.wire.pickled import PickleStyle, decode, encode

PLAIN = PickleStyle(protocol=5, old_numpy=False, out_of_band=False)
FRAMED = PickleStyle(protocol=5, old_numpy=False, out_of_band=True)


def memories(chunks: list[bytes | memoryview]) -> list[np.ndarray]:
    return [np.frombuffer(chunk, np.uint8) for chunk in chunks if isinstance(chunk, memoryview)]


@pytest.mark.parametrize(
    "style",
    [PLAIN, FRAMED, *(PickleStyle(p, old_numpy=True, out_of_band=False) for p in (3, 4, 5))],
    ids=repr,
)
@pytest.mark.parametrize("layout", [np.asarray, np.transpose])
def test_the_memory_of_a_big_array_is_not_copied(style: PickleStyle, layout) -> None:
    image = layout(np.arange(480 * 640, dtype=np.int32).reshape(480, 640))
    chunks = encode({"image": image}, style)
    (memory,) = memories(chunks)
    assert np.shares_memory(memory, image)
    assert np.array_equal(decode(b"".join(chunks), Limits())[0]["image"], image)


def test_a_strided_array_is_made_contiguous_first() -> None:
    image = np.arange(480 * 640, dtype=np.int32).reshape(480, 640)[:, ::2]
    (memory,) = memories(encode(image, FRAMED))
    assert not np.shares_memory(memory, image)
    assert np.array_equal(memory.view(np.int32), image.ravel())


def test_lent_buffers_of_small_arrays_are_views_too() -> None:
    state = np.arange(6, dtype=np.float32)
    (memory,) = memories(encode(state, FRAMED))
    assert np.shares_memory(memory, state)


def test_a_pickle_of_small_values_is_one_chunk() -> None:
    assert len(encode({"status": "ok", "output": np.arange(6.0)}, PLAIN)) == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_golden_bytes(protocol: int) -> None:
    """Plain values, in the opcodes of the protocol asked for and no younger one."""
    text = {
        2: b"X\x01\x00\x00\x00a",
        3: b"X\x01\x00\x00\x00a",
        4: b"\x8c\x01a",
        5: b"\x8c\x01a",
    }[protocol]
    style = PickleStyle(protocol, old_numpy=False, out_of_band=False)
    written = b"".join(encode({"a": [None, True, 1, -2, 0.5, (3,)]}, style))
    items = b"](N\x88K\x01J\xfe\xff\xff\xffG?\xe0\x00\x00\x00\x00\x00\x00(K\x03te"
    assert written == bytes((0x80, protocol)) + b"}(" + text + items + b"u."


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_no_opcode_is_younger_than_the_protocol(protocol: int) -> None:
    value = [b"a" * 300, bytearray(b"b"), "c" * 300, {1}, 2**70, 1j, np.zeros(3), np.float32(1)]
    written = b"".join(encode(value, PickleStyle(protocol, True, False)))
    assert max(op.proto for op, _, _ in pickletools.genops(written)) <= protocol


class Child(dict):
    pass


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "a value of type object cannot be sent"),
        ([{"a": dt.date(2020, 1, 1)}], "a value of type datetime.date cannot be sent"),
        (collections.OrderedDict(a=1), "a value of type collections.OrderedDict cannot be sent"),
        (Child(a=1), "Child cannot be sent"),
        (len, "a value of type builtin_function_or_method cannot be sent"),
        (np.float32, "a value of type type cannot be sent"),
        (np.dtype("f4"), "cannot be sent"),
        (np.ma.array([1, 2]), "MaskedArray cannot be sent"),
        (np.array([object()]), "a value of type object cannot be sent"),
        (np.zeros(2, [("a", "f4")]), "an array or scalar of [('a', '<f4')] cannot be sent"),
        (np.zeros(2, np.longdouble), "an array or scalar of float128 cannot be sent"),
        (np.zeros(2, np.dtype("f4", metadata={"a": 1})), "an array or scalar of float32"),
        (np.void(b"ab"), "cannot be sent"),
        ({(1, 2): 3}, "a key of type tuple cannot be sent"),
        ({2**63: 3}, "a key of type int cannot be sent"),
        ({1j}, "a key of type complex cannot be sent"),
        ("\ud800", "text with a lone surrogate cannot be sent"),
        (2**2040, "an integer of more than 255 bytes cannot be sent"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_data_is_named(value: object, told: str) -> None:
    if told.endswith("float128 cannot be sent") and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is float64 here")
    with pytest.raises(TypeError) as caught:
        encode({"output": value}, PLAIN)
    assert told in str(caught.value)


def test_a_value_in_itself_is_refused() -> None:
    value: list[object] = []
    value.append({"again": value})
    with pytest.raises(TypeError, match="nested more than 64 deep, or in itself"):
        encode(value, PLAIN)


def test_what_is_nested_64_deep_is_written_and_read() -> None:
    value: list[object] = [1]
    for _ in range(63):
        value = [value, "x"]
    assert decode(b"".join(encode(value, PLAIN)), Limits())[0] == value


def test_largest_and_smallest_integers_are_written_and_read() -> None:
    value = [
        s * (2**n + d)
        for n in (7, 8, 15, 16, 31, 32, 63, 64, 2038)
        for s in (1, -1)
        for d in (-1, 0, 1)
    ]
    written = b"".join(encode(value, PLAIN))
    assert decode(written, Limits())[0] == value
    assert pickle.loads(written) == value


def test_numpy_keys_are_written_as_plain_ones() -> None:
    value = {np.int64(3): 0.5, np.str_("a"): 1, np.bool_(True): 2}
    decoded, _ = decode(b"".join(encode(value, PLAIN)), Limits())
    assert decoded == {3: 0.5, "a": 1, True: 2}
    assert [type(key) for key in decoded] == [int, str, bool]


def test_an_array_of_objects_becomes_nested_lists() -> None:
    labels = np.array([["cat", b"dog"], [None, 1.5]], np.object_)
    written = b"".join(encode({"labels": labels, "one": np.array("x", np.object_)}, PLAIN))
    assert pickle.loads(written) == {"labels": [["cat", b"dog"], [None, 1.5]], "one": "x"}


def test_an_array_that_is_read_only_can_be_written() -> None:
    image = np.zeros(100_000, np.uint8)
    image.flags.writeable = False
    assert decode(b"".join(encode(image, PLAIN)), Limits())[0].shape == (100_000,)


def test_what_is_remembered_of_an_array_is_not_taken_for_another() -> None:
    """Opcodes around an array are remembered; each of these differs in one thing that they tell."""
    plain = np.arange(6, dtype="<i2").reshape(2, 3)
    for array in (plain, plain.reshape(3, 2), np.asfortranarray(plain), plain.astype(">i2")):
        for old_numpy in (False, True):
            chunks = encode(array, PickleStyle(5, old_numpy, out_of_band=True))
            back, style = decode(b"".join(chunks), Limits())
            assert style.old_numpy == old_numpy
            assert back.dtype == array.dtype
            assert back.flags.f_contiguous == array.flags.f_contiguous
            np.testing.assert_array_equal(back, array, strict=True)


def test_metadata_is_refused_although_dtypes_with_and_without_it_are_equal() -> None:
    style = PickleStyle(5, old_numpy=False, out_of_band=True)
    encode(np.zeros(3, np.int16), style)
    with pytest.raises(TypeError, match="int16 cannot be sent"):
        encode(np.zeros(3, np.dtype(np.int16, metadata={"unit": "m"})), style)
