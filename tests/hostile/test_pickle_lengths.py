"""Pickles that lie about lengths: no claim is believed, and nothing is allocated for one."""

from __future__ import annotations

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickled import decode

MIB = 2**20


def refusal(body: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(InvalidRequest, match=r"\Apickle: ") as caught:
        decode(body, limits or Limits())
    assert caught.value.code is Code.MALFORMED_REQUEST
    assert len(caught.value.message) < 400
    return caught.value.message


def peak_bytes(body: bytes) -> int:
    """Return the most memory that Python and numpy held at once while they decoded."""
    tracemalloc.start()
    try:
        decode(body, Limits())
    except InvalidRequest:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def test_c10_memo_2_28() -> None:
    body = b"\x80\x02Nr\x00\x00\x00\x10."
    assert decode(body, Limits())[0] is None
    assert peak_bytes(body) < MIB
    assert peak_bytes(b"\x80\x02Nr\xff\xff\xff\xff.") < MIB


@pytest.mark.parametrize("op", [b"\x8e", b"\x8d", b"\x96", b"\x95"])
def test_c11_binbytes8_1tb(op: bytes) -> None:
    body = b"\x80\x05" + op + struct.pack("<Q", 2**40) + b"abc."
    assert f"{2**40} bytes" in refusal(body)
    assert peak_bytes(body) < MIB


@pytest.mark.parametrize(("op", "form"), [(b"B", "<I"), (b"X", "<I"), (b"C", "B"), (b"\x8c", "B")])
def test_c11_no_length_is_believed(op: bytes, form: str) -> None:
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    body = b"\x80\x05" + op + struct.pack(form, largest) + b"abc."
    assert refusal(body) == f"pickle: {largest} bytes are announced where 4 are left"
    assert peak_bytes(body) < MIB


@pytest.mark.parametrize("name", [b"bytearray", b"bytes"])
def test_c12_bytearray_reduce_8gb(name: bytes) -> None:
    size = b"\x8a\x05\x00\x00\x00\x00\x02"
    for module in (b"builtins", b"__builtin__"):
        body = b"\x80\x05c" + module + b"\n" + name + b"\n" + size + b"\x85R."
        assert refusal(body).startswith(f"pickle: {name.decode()} is called with ")
        assert peak_bytes(body) < MIB


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "does not begin as a pickle"),
        (b"\x80", "does not begin as a pickle"),
        (b"\x80\x05", "the body ends before opcode STOP"),
        (b"\x80\x05N", "the body ends before opcode STOP"),
        (b"\x80\x05.", "not exactly one value"),
        (b"\x80\x05NN.", "not exactly one value"),
        (b"\x80\x05(N.", "not exactly one value"),
        (b"\x80\x05N(.", "not exactly one value"),
        (b"\x80\x05N.N", "1 bytes follow opcode STOP"),
        (b"\x80\x05N." * 2, "4 bytes follow opcode STOP"),
        (b"\x80\x05t.", "opcode TUPLE wants more than there is"),
        (b"\x80\x05\x86.", "opcode TUPLE2 wants more than there is"),
        (b"\x80\x05N(\x86.", "opcode TUPLE2 wants more than there is"),
        (b"\x80\x05a.", "opcode APPEND wants more than there is"),
        (b"\x80\x05](Na.", "opcode APPEND wants more than there is"),
        (b"\x80\x05\x94.", "opcode MEMOIZE wants more than there is"),
        (b"\x80\x05R.", "opcode REDUCE wants more than there is"),
        (b"\x80\x05J\x00", "opcode BININT wants more than there is"),
        (b"\x80\x05K", "opcode BININT1 wants more than there is"),
        (b"\x80\x05G\x00", "opcode BINFLOAT wants more than there is"),
        (b"\x80\x05\x8a", "opcode LONG1 wants more than there is"),
        (b"\x80\x05\x8a\x08abc.", "8 bytes are announced where 4 are left"),
        (b"\x80\x05h\x00.", "nothing is in the memo at 0"),
        (b"\x80\x05j\xff\xff\xff\xff.", "nothing is in the memo at 4294967295"),
        (b"\x80\x05Na.", "opcode APPEND wants more than there is"),
        (b"\x80\x05NNa.", "items are appended to None"),
        (b"\x80\x05}(Ne.", "items are appended to a dict"),
        (b"\x80\x05](NNu.", "a key is set in a value of type list"),
        (b"\x80\x05}(Nu.", "a key without a value"),
        (b"\x80\x05](N\x90.", "members are added to a value of type list"),
        (b"\x80\x05(N\x91(N\x90.", "members are added to a frozenset"),
        (b"\x80\x05\x8c\x01\xff.", "text is not UTF-8"),
        (b"\x80\x05\x8c\x03\xed\xa0\x80.", "text is not UTF-8"),
    ],
)
def test_c15_what_is_not_one_whole_pickle(body: bytes, told: str) -> None:
    assert told in refusal(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\x80\x04\x95" + struct.pack("<Q", 3) + b"N.", "a frame of 3 bytes where 2 are left"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"N.", "a frame of 18446744073709551615"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1) + b"K\x01.", "reaches over the end of its frame"),
        (b"\x80\x04\x95" + struct.pack("<Q", 3) + b"C\x02ab.", "2 bytes are announced where 1"),
        (
            b"\x80\x04\x95" + struct.pack("<Q", 9) + b"\x95" + bytes(8) + b"N.",
            "frame within a frame",
        ),
        (
            b"\x80\x04\x95" + struct.pack("<Q", 11) + b"\x95" + bytes(8) + b"N.",
            "frame within a frame",
        ),
        (b"\x80\x04\x95\x01", "opcode FRAME wants more than there is"),
        (b"\x80\x04N\x95" + struct.pack("<Q", 0), "the body ends before opcode STOP"),
    ],
)
def test_c15_frame_lies(body: bytes, told: str) -> None:
    assert told in refusal(body)


def test_c15_a_pickle_that_is_cut_anywhere_is_refused() -> None:
    for protocol in (2, 3, 4, 5):
        whole = pickle.dumps(
            [{"a": np.arange(3.0)}, np.float32(1), b"x" * 300, {1}, 2**70], protocol
        )
        for length in range(len(whole)):
            assert refusal(whole[:length])
