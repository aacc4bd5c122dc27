"""Every plain value goes through JSON and frames and is the same afterwards, types and bits."""

from __future__ import annotations

import collections
import enum
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.runtimes.process.values import CannotCarry, Malformed, pack, unpack


def carried(value: Any) -> Any:
    frames: list[np.ndarray] = []

    def add(array: np.ndarray) -> int:
        frames.append(array)
        return len(frames) - 1

    text = json.dumps(pack(value, add))
    return unpack(json.loads(text), frames)


def alike(one: Any, other: Any) -> bool:
    """Tell whether two values are equal in type and in every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        a, b = np.asarray(one), np.asarray(other)
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype.hasobject:
            return alike(a.reshape(-1).tolist(), b.reshape(-1).tolist())
        return a.tobytes() == b.tobytes()
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            alike(a, b) for a, b in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return math.isnan(one) == math.isnan(other) and (
            math.isnan(one) or one.hex() == other.hex()
        )
    return one == other


VALUES = [
    None,
    True,
    0,
    -1,
    2**64,
    -(2**5000),
    10**4299,
    1.5,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    1e-320,
    "",
    "text",
    "zw\u00f6lf \u4e16\u754c \U0001f600 \x00",
    "\ud800 alone",
    b"",
    b"\x00\xff",
    b"x" * 5000,
    bytearray(b"abc"),
    1 - 2j,
    [],
    [1, [2.5, [None]]],
    [True, 1, 1.0, "1"],
    [2**5000, 1],
    (),
    (1, (2, [3])),
    {},
    {"a": {"b": (1,)}, "": 0},
    {1: "a", (1, "x"): "b", None: 0, b"k": 1, 1.5: 2},
    {"d": 1},
    {"a": 0},
    set(),
    {1, 2},
    frozenset({"a"}),
    [{"t": [1]}, {"a": {"a": 1}}],
    np.float32(1.5),
    np.float64(0.1),
    np.int8(-3),
    np.bool_(True),
    np.str_("text"),
    np.bytes_(b"raw"),
    np.datetime64("2026-01-01T00:00", "s"),
    np.complex64(1 + 2j),
    np.array([b"one", b"", b"\x00\xff"], np.object_),
    np.array([["a", None], [1, (2, 3)]], np.object_),
    np.array([], np.object_),
    np.array("zero dimensions", np.object_),
    np.array([[b"a", b"b"]], np.object_),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.40}")
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert alike(carried(value), value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=40)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(plain)
def test_any_plain_value_comes_back_as_it_was(value: Any) -> None:
    assert alike(carried(value), value)


class Colour(enum.IntEnum):
    RED = 3


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (Colour.RED, 3),
        (Name("own"), "own"),
        (Point(1, 2), (1, 2)),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.UserList, None),
    ][:-1],
    ids=repr,
)
def test_objects_of_derived_classes_become_plain_ones(value: Any, base: Any) -> None:
    assert alike(carried(value), base)
    assert alike(carried([value]), [base])


def itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "a value of the type object"),
        ({"a": [lambda: 0]}, "a value of the type function"),
        (range(3), "a value of the type range"),
        (np.ma.masked_array([1, 2], [True, False]), "a masked array"),
        (np.zeros(2, [("a", object)]), "an array of "),
        (itself(), "nested too deeply"),
        (deep(), "nested too deeply"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_has_no_form_is_named(value: Any, named: str) -> None:
    with pytest.raises(CannotCarry, match=named):
        pack(value, lambda array: 0)


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"no": 1},
        {"d": 1},
        {"d": {}, "t": []},
        {"d": [1]},
        {"t": 5},
        {"m": [[1]]},
        {"m": [[[1], 2]]},
        {"s": [[1]]},
        {"a": 1},
        {"a": -1},
        {"a": "0"},
        {"a": True},
        {"a": None},
        {"n": 0},
        {"b": 7},
        {"x": "\u0100"},
        {"x": 1},
        {"c": [1]},
        {"c": ["1", "x"]},
        {"i": 5},
        {"i": "no"},
        {"o": [[2], [1]]},
        {"o": [[-1], []]},
        {"o": ["", []]},
        {"o": [[0.0], []]},
        {"o": 1},
        {"z": [[1], [4], 0]},
        {"z": [[1], [-1], 0]},
        {"z": [[2], [1], 0]},
        {"z": [[1], [1], 3]},
        [[{"?": 1}]],
        {"t": [{"a": 9}]},
    ],
    ids=json.dumps,
)
def test_what_is_no_packed_value_is_refused(packed: Any) -> None:
    with pytest.raises(Malformed):
        unpack(packed, [np.arange(3, dtype=np.uint8)])


def test_a_value_nested_without_end_is_refused() -> None:
    packed: Any = 1
    for _ in range(100_000):
        packed = {"t": [packed]}
    with pytest.raises(Malformed):
        unpack(packed, [])
