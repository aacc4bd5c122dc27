from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import Code, InvalidRequest
from pelton.wire import strict_json
from pelton.wire.limits import Limits
from pelton.wire.strict_json import MAX_CONTAINERS, dumps, loads

LIMITS = Limits()


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        loads(raw, LIMITS)
    assert len(caught.value.message) < 200
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        b"null", b"[]", b'{"a":[1,2.5,-3e2,true,null,"\\u00e4\\ud83d\\ude00"]}', b' "x" ', b"0",
        b'{"a":{"a":1}}', b'["\\\\ud800"]',
    ],
)  # fmt: skip
def test_strict_json_reads_as_the_standard_library_does(raw: bytes) -> None:
    assert loads(raw, LIMITS) == json.loads(raw)
    assert loads(memoryview(bytearray(raw)), LIMITS) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "broken"),
        (b"{", "broken"),
        (b'{"a":1,}', "broken"),
        (b'["a', "broken"),
        (b"[1] x", "broken"),
        (b"01", "broken"),
        (b"'a'", "broken"),
        (b"[1,2", "at character 4"),
        (b'"\x01"', "broken"),
        (b"\xef\xbb\xbf{}", "broken"),
        ("{}".encode("utf-16"), "not UTF-8"),
        ("{}".encode("utf-16-le"), "broken"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b'"\\ude00\\ud83d"', "surrogate"),
        (b'{"a":1,"b":2,"a":3}', "'a' twice"),
        (b'[{"k":{"a":1,"\\u0061":3}}]', "'a' twice"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b"1e999", "1e999 is too large"),
        (b"[-1e400]", "too large"),
        (b"9" * 400 + b".0", "too large"),
        (b"1" * 5000, "too many digits"),
        (b"-" + b"1" * 5000, "too many digits"),
    ],
)
def test_what_is_no_strict_json_is_refused(raw: bytes, says: str) -> None:
    error = refusal(raw)
    assert says in error.message
    assert error.code is Code.MALFORMED_REQUEST


def test_integers_are_never_rounded() -> None:
    assert loads(b"[18446744073709551617]", LIMITS) == [2**64 + 1]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return opening * depth + b"0" + closing * depth

    value = loads(nested(64), LIMITS)
    for _ in range(64):
        value = value[0] if isinstance(value, list) else value["a"]
    assert value == 0
    for depth in (65, 250_000):
        error = refusal(nested(depth))
        assert "more than 64 levels" in error.message
        assert error.code is Code.MALFORMED_REQUEST
    assert "nested" in refusal(opening * 250_000).message


def test_depth_beyond_the_interpreters_own_is_refused_where_limits_allow_it() -> None:
    deep = Limits(max_json_depth=10**6)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        loads(b"[" * 250_000 + b"]" * 250_000, deep)


def test_brackets_in_texts_are_no_nesting() -> None:
    raw = json.dumps(["[" * 100, '"[[\\"' * 100, "\\", {"{" * 100: 1}] * 40).encode()
    assert loads(raw, LIMITS) == json.loads(raw)


def test_many_escaped_quotes_in_an_open_text_are_searched_once() -> None:
    # A quadratic search would take hours here, and the suite's time-out would end it.
    raw = b"[" * 70 + b'"' + b'\\"' * 2_000_000
    assert "nested" in refusal(raw).message


def test_wide_and_flat_is_not_deep() -> None:
    raw = b"[" + b",".join([b"[[]]"] * 1000) + b"]"
    assert loads(raw, LIMITS) == [[[]]] * 1000


def test_too_many_containers_are_refused_before_they_are_made() -> None:
    error = refusal(b"[" + b"[]," * MAX_CONTAINERS + b"0]")
    assert error.code is Code.TOO_LARGE


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_only_invalid_request_escapes(raw: bytes) -> None:
    try:
        value = loads(raw, LIMITS)
    except InvalidRequest:
        return
    assert value == json.loads(raw)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab[{\\"'), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_round_trip(value: object) -> None:
    assert loads(dumps(value), LIMITS) == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
        ("ä", '"ä"'.encode()),
        (np.array([[1, 2], [3, 4]], np.uint8), b"[[1,2],[3,4]]"),
        (np.float32(0.5), b"0.5"),
        (np.float64(0.5), b"0.5"),
        (np.int64(-3), b"-3"),
        (np.bool_(True), b"true"),
        (np.array(3.5), b"3.5"),
        (np.zeros((0, 3)), b"[]"),
        ({"t": (1, 2)}, b'{"t":[1,2]}'),
        (b"caf\xc3\xa9", '"café"'.encode()),
        (np.array([b"a", "b"], object), b'["a","b"]'),
        (math.nan, b'"NaN"'),
        ([math.inf, {"x": -math.inf}, 1.0], b'["Infinity",{"x":"-Infinity"},1.0]'),
        (np.array([1, np.nan], np.float32), b'[1.0,"NaN"]'),
        ((np.float64("inf"), np.float32("nan")), b'["Infinity","NaN"]'),
        ({"a": math.nan, "b": b"x", "c": np.int8(1)}, b'{"a":"NaN","b":"x","c":1}'),
    ],
)
def test_written_form(value: object, written: bytes) -> None:
    assert dumps(value) == written


def looped() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1, 2}, "set"),
        (b"\xff", "not UTF-8"),
        ("\ud800", "surrogates"),
        ({("a",): 1}, "tuple"),
        (1j, "complex"),
        (np.array([1j]), "complex"),
        (np.datetime64("2020-01-01"), "date"),
        (looped(), "JSON cannot carry"),
        ([math.nan, looped()], "JSON cannot carry"),
        ([10**5000], "digits"),
    ],
)
def test_what_json_cannot_carry(value: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        dumps(value)


def test_the_limit_on_containers_admits_a_full_hd_image() -> None:
    assert strict_json.MAX_CONTAINERS >= 1 + 1080 + 1080 * 1920


def test_json_may_be_as_long_as_the_limit_and_not_a_byte_longer() -> None:
    limits = Limits(max_json_bytes=10)
    assert loads(b"[1,2,3,45]", limits) == [1, 2, 3, 45]
    with pytest.raises(InvalidRequest, match="has 11 bytes; at most 10 are read") as caught:
        loads(b"[1,2,3,456]", limits)
    assert caught.value.code == Code.TOO_LARGE
