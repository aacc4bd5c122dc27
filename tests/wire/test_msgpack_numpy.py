"""Arrays in MessagePack, against the clients whose dialects these are."""

from __future__ import annotations

from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.msgpack_numpy import MsgpackDialect, decode, encode

LIMITS = Limits()

ARRAYS = [
    np.array([True, False]),
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    np.arange(6, dtype=np.float32),
    np.array([[np.nan, -np.inf, 0.5]]),
    np.array(7, np.int64),
    np.zeros((0, 3), np.float16),
    np.array([2**64 - 1], np.uint64),
    np.arange(10_000, dtype=np.int16),
]
SCALARS = [np.float32(0.5), np.int64(-3), np.uint8(255), np.bool_(True), np.float16(2)]


def openpi_pack(value: Any) -> Any:
    """Pack as openpi's clients do, written after the form of their messages."""
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def openpi_unpack(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        return np.ndarray(buffer=found[b"data"], dtype=found[b"dtype"], shape=found[b"shape"])
    if b"__npgeneric__" in found:
        return np.dtype(found[b"dtype"]).type(found[b"data"])
    return found


def text_keys(value: Any) -> Any:
    return {key.decode(): each for key, each in openpi_pack(value).items()}


PACK = {
    MsgpackDialect.OPENPI: openpi_pack,
    MsgpackDialect.OPENPI_TEXT: text_keys,
    MsgpackDialect.MSGPACK_NUMPY: msgpack_numpy.encode,
}
UNPACK = {
    MsgpackDialect.OPENPI: openpi_unpack,
    MsgpackDialect.OPENPI_TEXT: lambda found: openpi_unpack(
        {key.encode(): each for key, each in found.items()}
    ),
    MsgpackDialect.MSGPACK_NUMPY: msgpack_numpy.decode,
}
DIALECTS = list(PACK)


def read(value: object, pack: Any = None) -> tuple[Any, MsgpackDialect]:
    return decode(memoryview(msgpack.packb(value, default=pack)), LIMITS)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_arrays(dialect: MsgpackDialect, array: np.ndarray) -> None:
    found, told = read({"obs": [array]}, PACK[dialect])
    assert told is dialect
    np.testing.assert_array_equal(found["obs"][0], array, strict=True)
    assert not found["obs"][0].flags.writeable
    assert found["obs"][0].flags.aligned

    written = b"".join(encode({"act": array}, dialect))
    answer = msgpack.unpackb(written, object_hook=None)["act"]
    np.testing.assert_array_equal(UNPACK[dialect](answer), array, strict=True)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: str(scalar.dtype))
@pytest.mark.parametrize("dialect", DIALECTS)
def test_scalars(dialect: MsgpackDialect, scalar: np.generic) -> None:
    found, told = read([scalar], PACK[dialect])
    assert told is dialect
    assert found[0] == scalar
    assert type(found[0]) is type(scalar)

    (answer,) = msgpack.unpackb(b"".join(encode([scalar], dialect)))
    answer = UNPACK[dialect](answer)
    assert answer == scalar
    assert type(answer) is type(scalar)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_bytes_on_the_wire_are_those_of_the_dialect(dialect: MsgpackDialect) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours = msgpack.unpackb(b"".join(encode(array, dialect)))
    assert ours == msgpack.unpackb(msgpack.packb(PACK[dialect](array)))


def test_an_observation() -> None:
    image = np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3)
    body = bytearray(
        msgpack.packb({"prompt": "pick up", "image": image, "raw": b"\x01"}, default=openpi_pack)
    )
    found, dialect = decode(memoryview(body), LIMITS)
    assert dialect is MsgpackDialect.OPENPI
    assert found["prompt"] == "pick up"
    assert type(found["raw"]) is bytes
    np.testing.assert_array_equal(found["image"], image, strict=True)
    assert np.shares_memory(found["image"], np.frombuffer(body, np.uint8))


def test_big_arrays_are_not_copied_on_the_way_out() -> None:
    array = np.arange(10_000, dtype=np.float32)
    pieces = encode({"a": array}, MsgpackDialect.OPENPI)
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), array) for piece in pieces)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.arange(9)[::-2]])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_layout_and_byte_order(dialect: MsgpackDialect, array: np.ndarray) -> None:
    for value in (array, array.astype(array.dtype.newbyteorder(">"))):
        (answer,) = msgpack.unpackb(b"".join(encode([value], dialect)))
        np.testing.assert_array_equal(UNPACK[dialect](answer), array, strict=True)


def test_big_endian_arrays_arrive_in_native_order() -> None:
    found, _ = read(np.array([1, 2], ">i4"), openpi_pack)
    np.testing.assert_array_equal(found, np.array([1, 2], np.int32), strict=True)


def test_without_arrays_a_message_is_plain_and_its_reply_holds_lists() -> None:
    value, dialect = read({"x": [[1, 2.5]], "data": b"\x00", "s": None})
    assert value == {"x": [[1, 2.5]], "data": b"\x00", "s": None}
    assert type(value["data"]) is bytes
    assert dialect is MsgpackDialect.PLAIN
    reply = {"a": np.array([[1, 2]], np.uint8), "b": np.float32(0.5), "c": np.float64("nan")}
    answer = msgpack.unpackb(b"".join(encode(reply, dialect)))
    assert answer["a"] == [[1, 2]]
    assert answer["b"] == 0.5
    assert answer["c"] != answer["c"]


@pytest.mark.parametrize("dialect", list(MsgpackDialect))
def test_text_goes_as_lists_in_every_dialect(dialect: MsgpackDialect) -> None:
    for array in (np.array([["a", "b"]]), np.array([["a", "b"]], object)):
        assert msgpack.unpackb(b"".join(encode(array, dialect))) == [["a", "b"]]
    assert msgpack.unpackb(b"".join(encode(np.array([b"\xff"], object), dialect))) == [b"\xff"]


def test_the_first_array_decides_the_dialect() -> None:
    mixed = [openpi_pack(np.ones(1)), text_keys(np.ones(1))]
    value, dialect = read({"n": {"m": mixed}})
    assert dialect is MsgpackDialect.OPENPI
    assert [array.tolist() for array in value["n"]["m"]] == [[1.0], [1.0]]


def openpi(**changed: object) -> dict[bytes, object]:
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2]} | changed
    return {key.encode(): value for key, value in fields.items() if value is not ...}


def pypi(**changed: object) -> dict[bytes, object]:
    fields = {"nd": True, "type": "<f4", "kind": b"", "shape": [2], "data": bytes(8)} | changed
    return {key.encode(): value for key, value in fields.items() if value is not ...}


@pytest.mark.parametrize(
    "dtype",
    ["O", "|O", "|V8", "V4", "<U2", "|S4", "<c8", "<M8[s]", "<m8", "f", "float32", "<f16", "",
     "<f3", "f4,f4", "<f4\n", " <f4", [["a", "<f4"]], None, 4, b"|O", ["<f4"]],
)  # fmt: skip
def test_dtypes_that_are_no_numbers(dtype: object) -> None:
    for form in (openpi(dtype=dtype), pypi(type=dtype), pypi(nd=False, type=dtype)):
        with pytest.raises(InvalidRequest, match="is refused; numbers and booleans are taken"):
            read(form)
    with pytest.raises(InvalidRequest, match="is refused"):
        read({b"__npgeneric__": True, b"data": 1, b"dtype": dtype})


def test_what_pypi_packs_as_a_pickle_is_never_opened() -> None:
    array = np.array([{"a": 1}], object)
    with pytest.raises(InvalidRequest, match=r"dtype .* is refused"):
        read(array, msgpack_numpy.encode)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"shape": [3]}, "need 12 bytes, but 8 came"),
        ({"shape": [1]}, "need 4 bytes, but 8 came"),
        ({"shape": [2**32, 2**32]}, "but 8 came"),
        ({"shape": [-2]}, "dimension -2"),
        ({"shape": [2.0]}, "dimension 2.0"),
        ({"shape": [True, 2]}, "dimension True"),
        ({"shape": [1] * 33}, "33 dimensions"),
        ({"shape": 2}, "shape must be a list"),
        ({"shape": ...}, "shape must be a list"),
        ({"data": ...}, "data must be of type bin"),
        ({"data": "12345678"}, "data must be of type bin"),
        ({"data": [1, 2]}, "data must be of type bin"),
        ({"data": b"", "shape": [0, 2**62, 2**62]}, "dimensions are too large"),
    ],
)
def test_arrays_that_lie(changed: dict[str, object], says: str) -> None:
    for form in (openpi(**changed), pypi(**changed)):
        with pytest.raises(InvalidRequest, match=says):
            read(form)


def test_bools_are_zero_or_one() -> None:
    for form in (openpi(dtype="|b1", shape=[8]), pypi(type="|b1", shape=[8])):
        assert read(form)[0].tolist() == [False] * 8
        form[b"data"] = b"\x00\x01\x02" + bytes(5)
        with pytest.raises(InvalidRequest, match="a bool is one byte, 0 or 1"):
            read(form)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [("<u1", 300), ("<u1", -1), ("<i4", 1.5), ("<i4", True), ("|b1", 1), ("<f4", "1"),
     ("<f4", 1e300), ("<f4", None), ("<f4", b"\x00\x00\x00\x00"), ("<i8", 2**63)],
)  # fmt: skip
def test_scalars_that_are_no_elements_of_their_dtype(dtype: str, data: object) -> None:
    with pytest.raises(InvalidRequest, match="a scalar"):
        read({b"__npgeneric__": True, b"data": data, b"dtype": dtype})


@pytest.mark.parametrize(
    "value", [np.array([1j]), np.zeros(1, "i4,f4"), np.array(["2020"], "M8[D]"), np.complex64(1)]
)
@pytest.mark.parametrize("dialect", list(MsgpackDialect))
def test_arrays_that_cannot_be_written(value: object, dialect: MsgpackDialect) -> None:
    with pytest.raises(TypeError, match="MessagePack cannot carry"):
        encode({"a": value}, dialect)
