"""The MessagePack format, against the reference implementation and against liars."""

from __future__ import annotations

import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.messagepack import pack, unpack

LIMITS = Limits()


def read(body: bytes, limits: Limits = LIMITS) -> object:
    return unpack(memoryview(body), limits, frozenset(), lambda found: found)


def no_hook(value: object) -> object:
    raise TypeError(f"cannot carry a {type(value).__name__}")


def write(value: object) -> bytes:
    return b"".join(pack(value, no_hook))


def refusal(body: bytes, limits: Limits = LIMITS) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(body, limits)
    assert caught.value.message.startswith("MessagePack: ")
    assert len(caught.value.message) < 200
    return caught.value


KEYS = st.text(max_size=40) | st.binary(max_size=40)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=20),
    max_leaves=30,
)


@settings(deadline=None)
@given(VALUES)
def test_reads_what_the_reference_writes(value: object) -> None:
    assert read(msgpack.packb(value)) == value


@settings(deadline=None)
@given(VALUES)
def test_the_reference_reads_what_is_written(value: object) -> None:
    assert msgpack.unpackb(write(value)) == value


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536, 70_000])
def test_every_form_of_length(size: int) -> None:
    for value in ("a" * size, b"a" * size, [1] * size, {str(n): None for n in range(size)}):
        assert read(msgpack.packb(value)) == value
        assert write(value) == msgpack.packb(value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\xca" + struct.pack(">f", 0.5), 0.5),
        (b"\xcc\xff", 255),
        (b"\xcd\xff\xff", 65535),
        (b"\xce\xff\xff\xff\xff", 2**32 - 1),
        (b"\xcf" + b"\xff" * 8, 2**64 - 1),
        (b"\xd0\x80", -128),
        (b"\xd1\x80\x00", -(2**15)),
        (b"\xd2\x80\x00\x00\x00", -(2**31)),
        (b"\xd3\x80" + bytes(7), -(2**63)),
        (b"\xe0", -32),
        (b"\xff", -1),
        (b"\x7f", 127),
        (b"\xda\x00\x01a", "a"),
        (b"\xdd\x00\x00\x00\x01\x01", [1]),
        (b"\xdf\x00\x00\x00\x01\xa1a\x01", {"a": 1}),
        (b"\xc4\x01\xff", b"\xff"),
    ],
)
def test_every_tag(body: bytes, value: object) -> None:
    assert read(body) == value
    assert type(read(body)) is type(value)


def test_bytes_are_copies_save_under_viewed_keys() -> None:
    body = memoryview(bytearray(msgpack.packb({"a": b"1", "b": [b"2"], b"c": b"3"})))
    seen: list[dict[str | bytes, object]] = []
    unpack(body, LIMITS, frozenset({"a", b"c"}), seen.append)
    ((found),) = seen
    assert type(found["a"]) is memoryview
    assert type(found[b"c"]) is memoryview
    assert found["b"] == [b"2"]
    assert type(found["b"][0]) is bytes


def test_big_buffers_stand_on_their_own() -> None:
    small, big = b"s" * 10, b"b" * 10_000
    pieces = pack([small, big, small], no_hook)
    assert [len(piece) for piece in pieces] == [16, 10_000, 12]
    assert pieces[1].obj is big
    assert b"".join(pieces) == msgpack.packb([small, big, small])


# Liars


@pytest.mark.parametrize("claim", [b"\xdd", b"\xdf", b"\xdb", b"\xc6"])
def test_four_billion_items_that_are_not_there(claim: bytes) -> None:
    tracemalloc.start()
    try:
        assert "cut short" in refusal(claim + b"\xff\xff\xff\xff" + bytes(100)).message
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_lists_within_lists_that_each_claim_all_that_is_left() -> None:
    body = b"".join(b"\xdd" + struct.pack(">I", 300 - 5 * n) for n in range(60))
    assert "cut short" in refusal(body).message


@pytest.mark.parametrize("body", [msgpack.packb({"a": [1.5, "text", b"bytes", -70_000]})])
def test_every_truncation(body: bytes) -> None:
    for end in range(len(body)):
        assert refusal(body[:end]).code is Code.MALFORMED_REQUEST


def test_depth() -> None:
    for opening in (b"\x91", b"\x81\xa1a"):
        read(opening * 64 + b"\x01")
        for depth in (65, 250_000):
            error = refusal(opening * depth + b"\x01")
            assert "more than 64 levels" in error.message
            assert error.code is Code.MALFORMED_REQUEST


def test_values_are_counted() -> None:
    assert read(b"\x93\x01\x02\x03", Limits(max_pickle_ops=4)) == [1, 2, 3]
    error = refusal(b"\x93\x01\x02\x03", Limits(max_pickle_ops=3))
    assert error.code is Code.TOO_LARGE
    assert "more than 3 values; send numbers as arrays" in error.message


def test_a_million_empty_lists_are_refused_before_they_are_made() -> None:
    body = b"\xdd" + struct.pack(">I", 10**6) + b"\x90" * 10**6
    tracemalloc.start()
    try:
        assert refusal(body, Limits(max_pickle_ops=1000)).code is Code.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "cut short"),
        (b"\x01\x02", "1 bytes follow"),
        (b"\xc1", "begins no value"),
        (b"\xd4\x01\x00", "extension"),
        (b"\xd6\xff" + bytes(4), "extension"),
        (b"\xc7\x00\x01", "extension"),
        (b"\xc9\xff\xff\xff\xff\x01", "extension"),
        (b"\xa1\xff", "not UTF-8"),
        (b"\xa3\xed\xa0\x80", "not UTF-8"),
        (b"\x82\xa1a\x01\xa1a\x02", "'a' twice"),
        (b"\x82\xc4\x01a\x01\xc4\x01a\x02", "b'a' twice"),
        (b"\x81\x01\x02", "a int as key"),
        (b"\x81\xc0\x02", "a NoneType as key"),
        (b"\x81\x90\x02", "a list as key"),
        (b"\x81\x80\x02", "a dict as key"),
    ],
)
def test_refused(body: bytes, says: str) -> None:
    error = refusal(body)
    assert says in error.message
    assert error.code is Code.MALFORMED_REQUEST


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_only_invalid_request_escapes(body: bytes) -> None:
    try:
        value = read(body)
    except InvalidRequest:
        return
    assert read(write(value)) == value or value != value or "nan" in repr(value)


def looped() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "broken text"),
        ({1: 2}, "int as key"),
        ({(1,): 2}, "tuple as key"),
        ({1, 2}, "cannot carry a set"),
        (object(), "cannot carry a object"),
        (looped(), "holds itself"),
    ],
)
def test_what_cannot_be_written(value: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        write(value)
