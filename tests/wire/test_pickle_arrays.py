"""Arrays are read-only views of the body, and every claim about them is checked."""

from __future__ import annotations

import pickle
import pickletools
import struct
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickled import PickleStyle, decode, encode


def dtype(
    code: bytes, order: bytes, tail: bytes = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
) -> bytes:
    """Spell a dtype in opcodes."""
    return (
        b"cnumpy\ndtype\n\x8c" + bytes((len(code),)) + code + b"\x89\x88\x87R"
        b"(K\x03\x8c\x01" + order + b"NNN" + tail + b"tb"
    )


FLOAT32 = dtype(b"f4", b"<")


def array(shape: bytes, kind: bytes, data: bytes, order: bytes = b"\x8c\x01C") -> bytes:
    """Spell an array in opcodes, as a whole pickle."""
    return (
        b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(\x96"
        + struct.pack("<Q", len(data))
        + data
        + kind
        + shape
        + order
        + b"tR."
    )


def refusal(body: bytes) -> str:
    with pytest.raises(InvalidRequest, match=r"\Apickle: ") as caught:
        decode(body, Limits())
    return caught.value.message


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_view_the_received_bytes_and_cannot_be_written_to(protocol: int) -> None:
    value = {"state": np.arange(6, dtype="f4"), "image": np.zeros((48, 64, 3), "u1")}
    body = bytearray(pickle.dumps(value, protocol))
    memory = np.frombuffer(body, np.uint8)
    decoded, _ = decode(body, Limits())
    for name in value:
        assert np.shares_memory(decoded[name], memory)
        assert not decoded[name].flags.writeable
        assert np.array_equal(decoded[name], value[name])


def test_out_of_band_arrays_view_the_received_bytes_at_aligned_offsets() -> None:
    value = [np.arange(5, dtype="f8"), np.arange(3, dtype="u1"), np.arange(7, dtype="i4")]
    body = np.empty(4096, np.uint8)
    offset = -body.ctypes.data % 64
    chunks = b"".join(encode(value, PickleStyle(5, False, True)))
    body[offset : offset + len(chunks)] = np.frombuffer(chunks, np.uint8)
    decoded, _ = decode(body[offset : offset + len(chunks)].data, Limits())
    for got, sent in zip(decoded, value, strict=True):
        assert np.array_equal(got, sent)
        assert np.shares_memory(got, body)
        assert got.ctypes.data % 64 == 0
        assert not got.flags.writeable


def test_bytes_are_copied_out_of_the_body() -> None:
    body = bytearray(pickle.dumps([b"abc" * 200, bytearray(b"abc" * 200)], 5))
    decoded, _ = decode(body, Limits())
    body[:] = bytes(len(body))
    assert decoded == [b"abc" * 200, bytearray(b"abc" * 200)]
    decoded[1] += b"!"
    assert len(decoded[1]) == 601


def test_an_array_that_is_named_twice_is_one_read_only_array() -> None:
    image = np.arange(12, dtype="u1")
    first, second = decode(pickle.dumps([image, image], 5), Limits())[0]
    assert first is second


def test_decoding_does_not_touch_an_image() -> None:
    """Bytes of a different value at every size: no opcode is read from within an array."""
    for fill in (0, 0x2E, 0x80, 0x95, 0xFF):
        image = np.full((64, 64), fill, np.uint8)
        assert np.array_equal(decode(pickle.dumps(image, 5), Limits())[0], image)


def test_the_spelling_of_these_tests_is_right() -> None:
    decoded, _ = decode(array(b"K\x02\x85", FLOAT32, struct.pack("<2f", 1, 2)), Limits())
    assert decoded.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "data", "told"),
    [
        (b"K\x02\x85", b"1234", "float32 need 8 bytes, but 4 came"),
        (b"K\x01\x85", b"12345678", "float32 need 4 bytes, but 8 came"),
        (b")", b"", "float32 need 4 bytes, but 0 came"),
        (b"J\xff\xff\xff\xff\x85", b"", "dimension -1 is not an integer"),
        (b"G" + struct.pack(">d", 1.0) + b"\x85", b"1234", "dimension 1.0 is not an integer"),
        (b"\x88\x85", b"1234", "dimension True is not an integer"),
        (b"N\x85", b"1234", "dimension None is not an integer"),
        (b"(" + b"K\x01" * 33 + b"t", b"1234", "33 dimensions"),
        (b"]", b"1234", "shape is a value of type list in place of a tuple"),
        (b"N", b"1234", "shape is None in place of a tuple"),
        (b"\x8a\x05\x00\x00\x00\x00\x01" * 2 + b"\x86", b"", "need more than 2**63 bytes"),
        (b"\x8a\x08" + b"\xff" * 7 + b"\x7f" + b"\x85", b"", "need more than 2**63 bytes"),
        (b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f" + b"\x86", b"", "larger than any memory"),
        (
            b"(" + b"\x8a\x08" + (b"\xff" * 7 + b"\x7f\x8a\x08") * 31 + b"\xff" * 7 + b"\x7ft",
            b"",
            "need more",
        ),
    ],
)
def test_b8_shapes_that_do_not_fit(shape: bytes, data: bytes, told: str) -> None:
    assert told in refusal(array(shape, FLOAT32, data))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (dtype(b"f4", b"|"), "numpy.dtype('f4') with a state that numpy does not write"),
        (dtype(b"f4", b"="), "numpy.dtype('f4') with a state"),
        (dtype(b"u1", b"<"), "numpy.dtype('u1') with a state"),
        (dtype(b"f4", b"<", b"K\x04K\x04K\x00"), "numpy.dtype('f4') with a state"),
        (
            dtype(b"f4", b"<", b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK?"),
            "numpy.dtype('f4') with a state",
        ),
        (dtype(b"S3", b"|", b"K\x04K\x01K\x00"), "numpy.dtype('S3') with a state"),
        (dtype(b"U1", b"<", b"K\x01K\x04K\x08"), "numpy.dtype('U1') with a state"),
        (
            dtype(b"S9999999", b"|", b"J\x7f\x96\x98\x00K\x01K\x00"),
            "dtype 'S9999999' is not allowed",
        ),
        (dtype(b"U01", b"<", b"K\x04K\x04K\x08"), "dtype 'U01' is not allowed"),
        (dtype(b"f16", b"<"), "dtype 'f16' is not allowed"),
        (dtype(b"O8", b"|"), "dtype 'O8' is not allowed"),
        (dtype(b"V8", b"|"), "dtype 'V8' is not allowed"),
        (dtype(b"i4,O", b"|"), "dtype 'i4,O' is not allowed"),
        (dtype(b"f4\n", b"<"), r"dtype 'f4\n' is not allowed"),
        (dtype(b"M8", b"<"), "numpy.dtype('M8') with a state"),
        (b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R", "numpy.dtype('f4') with a state"),
        (b"cnumpy\ndtype\n", "global 'numpy.dtype' in place of a numpy.dtype"),
        (b"cnumpy\ndtype\nK\x01\x89\x88\x87R", "numpy.dtype is called in a way"),
        (b"cnumpy\ndtype\n\x8c\x02f4\x85R", "numpy.dtype is called in a way"),
        (b"cnumpy\ndtype\n\x8c\x02f4\x88\x88\x87R", "numpy.dtype is called in a way"),
        (b"\x8c\x02f4", "a value of type str in place of a numpy.dtype"),
        (b"N", "None in place of a numpy.dtype"),
    ],
)
def test_dtypes_that_numpy_does_not_write(kind: bytes, told: str) -> None:
    assert told in refusal(array(b"K\x02\x85", kind, bytes(8)))


def times(unit: bytes, metadata: bytes = b"N") -> bytes:
    return (
        b"cnumpy\ndtype\n\x8c\x02M8\x89\x88\x87R(K\x04\x8c\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00" + metadata + unit + b"\x86tb"
    )


def test_times_have_the_units_of_numpy() -> None:
    assert decode(array(b"K\x01\x85", times(b"(C\x02usK\x19K\x01K\x01t"), bytes(8)), Limits())[
        0
    ].dtype == np.dtype("M8[25us]")


@pytest.mark.parametrize(
    "unit",
    [
        b"(C\x02xsK\x01K\x01K\x01t",
        b"(C\x07genericK\x02K\x01K\x01t",
        b"(C\x02usK\x00K\x01K\x01t",
        b"(C\x02usJ\xff\xff\xff\xffK\x01K\x01t",
        b"(C\x02us\x8a\x05\x00\x00\x00\x00\x01K\x01K\x01t",
        b"(C\x02usK\x01K\x02K\x01t",
        b"(C\x02usK\x01K\x01K\x02t",
        b"(\x8c\x02usK\x01K\x01K\x01t",
        b"N",
    ],
)
def test_units_that_numpy_does_not_write(unit: bytes) -> None:
    body = array(b"K\x01\x85", times(unit), bytes(8))
    assert "numpy.dtype('M8') with a unit that numpy does not write" in refusal(body)


def test_a_dtype_with_metadata_of_its_own_is_refused() -> None:
    body = array(b"K\x01\x85", times(b"(C\x02usK\x01K\x01K\x01t", b"}\x8c\x01aK\x01s"), bytes(8))
    assert "with a unit" in refusal(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 1.x says that it loses metadata elsewhere
        tagged = pickle.dumps(np.zeros(2, np.dtype("f4", metadata={"a": 1})), 4)
    assert "numpy.dtype('f4') with a state" in refusal(tagged)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (b"\x8c\x01A", "neither in C nor in F order"),
        (b"\x8c\x01K", "neither in C nor in F order"),
        (b"N", "neither in C nor in F order"),
        (b"\x8c\x01CK\x00K\x01\x86", "neither in C nor in F order"),
        (b"\x8c\x01KK\x00K\x00\x86", "nor a permutation of its axes"),
        (b"\x8c\x01KK\x00K\x02\x86", "nor a permutation of its axes"),
        (b"\x8c\x01KK\x00\x88\x86", "nor a permutation of its axes"),
        (b"\x8c\x01KK\x00\x85", "nor a permutation of its axes"),
        (b"\x8c\x01K](K\x00K\x01e", "nor a permutation of its axes"),
        (b"\x8c\x01C)N", "_frombuffer is called in a way"),
        (b"", "_frombuffer is called in a way"),
    ],
)
def test_orders_that_numpy_does_not_write(order: bytes, told: str) -> None:
    assert told in refusal(array(b"K\x01K\x02\x86", FLOAT32, bytes(8), order))


def test_axes_are_permuted_as_numpy_does_it() -> None:
    grid = np.arange(6, dtype="f4").reshape(2, 3)
    body = array(b"K\x02K\x03\x86", FLOAT32, grid.tobytes(), b"\x8c\x01KK\x01K\x00\x86")
    assert np.array_equal(decode(body, Limits())[0], grid.T)


def test_a_bool_that_is_neither_0_nor_1_is_refused() -> None:
    body = pickle.dumps(np.array([True, False, True]), 5).replace(b"\1\0\1", b"\1\0\2")
    assert refusal(body) == "pickle: a bool is neither 0 nor 1"
    scalar = pickle.dumps(np.bool_(True), 4).replace(b"C\x01\x01", b"C\x01\x02")
    assert refusal(scalar) == "pickle: a bool is neither 0 nor 1"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("point", [0x110000, 0xFFFFFFFF, 0xD800, 0xDFFF])
def test_text_that_is_no_unicode_is_refused(order: str, point: int) -> None:
    sent = np.array(["ab"], f"{order}U2")
    for value in (sent, sent[0]):
        body = pickle.dumps(value, 5)
        written = sent.tobytes() if value is sent else np.str_("ab").tobytes()
        packed = struct.pack(("<" if value is not sent else order) + "I", point)
        damaged = body.replace(written, packed + written[4:])
        assert damaged != body
        assert refusal(damaged) == "pickle: an array of text holds what is no Unicode character"


@pytest.mark.parametrize("code", [b"S0", b"U0"])
def test_an_array_of_elements_without_bytes_is_refused(code: bytes) -> None:
    tail = b"K\x00K\x01K\x00" if code == b"S0" else b"K\x00K\x04K\x08"
    kind = dtype(code, b"|" if code == b"S0" else b"<", tail)
    huge = b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85"
    for shape in (huge, b"\x8a\x06\x00\x00\x00\x00\x00\x01" * 2 + b"\x86", b"K\x01\x85"):
        assert "whose elements have no bytes, is not allowed" in refusal(array(shape, kind, b""))
    empty, _ = decode(array(b"K\x00K\x03\x86", kind, b""), Limits())
    assert empty.shape == (0, 3)


def test_a_scalar_has_the_bytes_of_its_dtype() -> None:
    body = b"\x80\x04cnumpy._core.multiarray\nscalar\n" + FLOAT32 + b"C\x03abc\x86R."
    assert refusal(body) == "pickle: a scalar of float32 needs 4 bytes, but 3 came"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda b: b.replace(b"K\x00\x85", b"K\x01\x85", 1), "_reconstruct is called in a way"),
        (
            lambda b: b.replace(b"(K\x01K\x02\x85", b"(K\x02K\x02\x85", 1),
            "state is not of the form",
        ),
        (lambda b: b.replace(b"tb\x89C", b"tbK\x00C", 1), "state is not of the form"),
    ],
)
def test_the_older_spelling_is_checked_as_well(make: Callable[[bytes], bytes], told: str) -> None:
    body = pickletools.optimize(pickle.dumps(np.zeros(2, "f4"), 3))
    damaged = make(body)
    assert damaged != body
    assert told in refusal(damaged)
