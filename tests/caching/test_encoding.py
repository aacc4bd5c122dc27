"""Every plain value has one form, no two share one, and what is no form is refused."""

from __future__ import annotations

import contextlib
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caching.plain_values import VALUES, bits
from pelton.caching.encoding import MAX_DEPTH, MAX_VALUES, Malformed, NotPlain, decode, encode


def encoded(value) -> bytes:
    return b"".join(encode(value))


def test_the_form_is_what_its_description_says() -> None:
    def part(tag: bytes, number: int, content: bytes = b"") -> bytes:
        return tag + struct.pack("<Q", number) + content

    value = {"x": np.array([[1, 2]], "<f4"), 2: [True, None, -1, 0.5, "ü", (b"b",)]}
    value["z"] = np.array([b"a", b"bc"], object)
    assert encoded(value) == b"".join(
        [
            part(b"m", 3),
            part(b"s", 1, b"x"),
            part(b"a", 20, b"\x03<f4" + struct.pack("<QQ", 1, 2)),
            part(b"e", 8, struct.pack("<ff", 1, 2)),
            part(b"i", 1, b"\x02"),
            part(b"l", 6) + part(b"t", 0) + part(b"n", 0) + part(b"i", 1, b"\xff"),
            part(b"d", 8, struct.pack("<d", 0.5)) + part(b"s", 2, "ü".encode()),
            part(b"u", 1) + part(b"b", 1, b"b"),
            part(b"s", 1, b"z"),
            part(b"a", 11, b"\x02|O" + struct.pack("<Q", 2)),
            part(b"z", 16, struct.pack("<QQ", 1, 2)) + part(b"b", 3, b"abc"),
        ]
    )


@given(VALUES)
def test_what_is_read_is_what_was_written(value) -> None:
    assert bits(decode(encoded(value))) == bits(value)


@given(VALUES, VALUES)
def test_different_values_have_different_forms(one, other) -> None:
    assert (encoded(one) == encoded(other)) == (bits(one) == bits(other))


ALIKE = [
    [1, True, 1.0, "1", b"1", bytearray(b"1"), np.float64(1), np.int64(1), np.array(1)],
    [0.0, -0.0, False, 0, None, "", b"", [], (), {}],
    [["ab", "c"], ["a", "bc"], ["abc"], [["ab"], "c"], ["ab", ["c"]], ("ab", "c"), "abc"],
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"b": 2}}, [["a", 1], ["b", 2]], ["a", 1, "b", 2]],
    [np.zeros(4, "<f4"), np.zeros((2, 2), "<f4"), np.zeros(2, "<f8"), np.zeros(16, "u1")],
    [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0), np.zeros((0, 3), "<f4")],
    [np.array([1], "<i4"), np.array([1], ">i4"), np.array([1], "<u4"), np.array(1, "<i4")],
    [np.array([b"ab", b"c"], object), np.array([b"a", b"bc"], object), np.array([b"ab", b"c"])],
]


@pytest.mark.parametrize("values", ALIKE)
def test_values_that_look_alike_are_told_apart(values) -> None:
    for one, other in itertools.combinations(values, 2):
        assert encoded(one) != encoded(other), (one, other)


def test_the_memory_of_an_array_does_not_matter() -> None:
    x = np.arange(12, dtype="<f4").reshape(3, 4)
    same = [x, x.copy("F"), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1]]
    assert len({encoded(each) for each in same}) == 1


def test_elements_that_lie_in_order_are_not_copied() -> None:
    x = np.zeros(1000)
    (_, elements) = encode(x)
    assert np.shares_memory(np.asarray(elements), x)


class Text(str):
    __slots__ = ()


class Odd:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Odd(),
        {1},
        1j,
        Text("a"),
        range(3),
        {(1, 2): 3},
        [[Odd()]],
        np.array([Odd()], object),
        np.array(["a", b"b"], object),
        np.zeros(2, "<M8[s]"),
        np.zeros(2, "<f4,<f4"),
        np.ma.masked_array([1.0], [True]),
        np.longdouble(1),
        np.str_(""),
        [0] * MAX_VALUES,
    ],
)
def test_what_has_no_form_is_refused(value) -> None:
    with pytest.raises(NotPlain):
        encode(value)


def test_what_holds_itself_is_refused() -> None:
    endless: list = []
    endless.append(endless)
    with pytest.raises(NotPlain, match=f"more than {MAX_DEPTH} deep"):
        encode(endless)


@given(VALUES, st.data())
def test_a_form_that_was_cut_is_none(value, data) -> None:
    whole = encoded(value)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Malformed):
        decode(whole[:end])


@given(VALUES, st.data())
def test_changed_bytes_are_refused_or_read_as_something_that_has_a_form(value, data) -> None:
    changed = bytearray(encoded(value))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(changed))
    except Malformed:
        return
    assert bits(decode(encoded(read))) == bits(read)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(content) -> None:
    with contextlib.suppress(Malformed):
        decode(content)


BIG = struct.pack("<Q", 2**63)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        encoded(1) + b"\0",
        b"q" + bytes(8),
        b"s" + BIG,
        b"l" + BIG,
        b"m" + struct.pack("<Q", MAX_VALUES + 1),
        (b"l" + struct.pack("<Q", 1)) * (MAX_DEPTH + 5) + encoded(None),
        b"n" + struct.pack("<Q", 1) + b"x",
        b"d" + struct.pack("<Q", 7) + bytes(7),
        b"i" + struct.pack("<Q", 0),
        b"i" + struct.pack("<Q", 2) + b"\1\0",
        b"s" + struct.pack("<Q", 1) + b"\xff",
        b"m" + struct.pack("<Q", 2) + 2 * (encoded("a") + encoded(1)),
        b"m" + struct.pack("<Q", 2) + encoded(1) + encoded(0) + encoded(True) + encoded(0),
        b"m" + struct.pack("<Q", 1) + encoded([]) + encoded(1),
        b"a" + struct.pack("<Q", 4) + b"\x03<f4" + b"e" + struct.pack("<Q", 8) + bytes(8),
        b"a" + struct.pack("<Q", 20) + b"\x03<f4" + 2 * struct.pack("<Q", 2**31) + b"e" + bytes(8),
        b"a" + struct.pack("<Q", 20) + b"\x03<f4" + BIG + bytes(8) + b"e" + bytes(8),
        b"a"
        + struct.pack("<Q", 19)
        + b"\x02|O"
        + BIG
        + bytes(8)
        + b"z"
        + bytes(8)
        + b"b"
        + bytes(8),
        encoded(np.array([b"a", b"b"], object)).replace(struct.pack("<QQ", 1, 1), 2 * BIG),
        encoded(np.array([b"a", b"b"], object)).replace(
            struct.pack("<QQ", 1, 1), struct.pack("<QQ", 1, 2)
        ),
        b"a" + struct.pack("<Q", 3) + b"\x02|V" + b"e" + bytes(8),
        b"a" + struct.pack("<Q", 4) + b"\x03|O8" + b"e" + struct.pack("<Q", 8) + bytes(8),
        b"a" + struct.pack("<Q", 4 + 8 * 33) + b"\x03|u1" + bytes(8 * 33) + b"e" + bytes(8),
        b"g" + struct.pack("<Q", 3) + b"\x02|O" + b"e" + struct.pack("<Q", 8) + bytes(8),
    ],
)
def test_a_claim_that_is_not_true_is_found(content) -> None:
    with pytest.raises(Malformed):
        decode(content)


def test_arrays_that_were_read_cannot_be_written() -> None:
    array = decode(encoded(np.zeros(3)))
    with pytest.raises(ValueError):
        array[0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
