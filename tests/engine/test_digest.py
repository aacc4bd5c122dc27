"""Equal outputs have one digest; outputs that differ in anything have two."""

from __future__ import annotations

import hashlib
import itertools
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.engine.digest import digest_of

X = np.array([[1, 2], [3, 4]], "<f4")


def test_the_digest_is_what_its_description_says() -> None:
    def field(tag: bytes, content: bytes) -> bytes:
        return tag + struct.pack("<Q", len(content)) + content

    sequence = (
        field(b"s", b"y")
        + field(b"a", b"<f4")
        + field(b"d", struct.pack("<QQ", 2, 2))
        + field(b"e", struct.pack("<4f", 1, 2, 3, 4))
        + field(b"s", b"text")
        + field(b"l", struct.pack("<Q", 2))
        + field(b"s", "ü".encode())
        + field(b"m", struct.pack("<Q", 1))
        + field(b"i", b"-7")
        + field(b"n", b"")
    )
    outputs = {"y": X, "text": ["ü", {-7: None}]}
    assert digest_of(outputs) == f"sha256:{hashlib.sha256(sequence).hexdigest()}"


def test_the_memory_of_an_array_does_not_matter() -> None:
    same = [X, X.copy("F"), np.repeat(X, 2, axis=1)[:, ::2], X[::-1][::-1]]
    assert len({digest_of({"y": each}) for each in same}) == 1


DIFFERENT = [
    {},
    {"y": X},
    {"z": X},
    {"y": X.astype("<f8")},
    {"y": X.view("<i4")},
    {"y": X.astype(">f4")},
    {"y": X.reshape(4)},
    {"y": X.reshape(4, 1)},
    {"y": X, "z": X},
    {"z": X, "y": X},
    {"y": np.float32(0.0)},
    {"y": np.float32(-0.0)},
    {"y": np.array([np.nan], "<f4")},
    {"y": np.zeros((0, 3), "<f4")},
    {"y": np.zeros((3, 0), "<f4")},
    {"y": np.array([b"a", b"bc"], object)},
    {"y": np.array([b"ab", b"c"], object)},
    {"y": ["a", "bc"]},
    {"y": ["ab", "c"]},
    {"y": ["abc"]},
    {"y": "abc"},
    {"y": b"abc"},
    {"y": [["a"], "b"]},
    {"y": [["a", "b"]]},
    {"y": {"a": "b"}},
    {"y": 1},
    {"y": True},
    {"y": 1.0},
    {"y": "1"},
    {"y": None},
    {"y": -(2**200)},
    {"y": math.nan},
    {"y": 0.0},
    {"y": -0.0},
]


def test_what_differs_in_anything_has_another_digest() -> None:
    for one, other in itertools.combinations(DIFFERENT, 2):
        assert digest_of(one) != digest_of(other), (one, other)


def test_a_bit_of_an_array_matters() -> None:
    changed = X.copy()
    changed.view("<u4")[1, 1] ^= 1
    assert digest_of({"y": changed}) != digest_of({"y": X})


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain, plain)
def test_plain_values_have_one_digest_exactly_when_they_are_written_alike(one, other) -> None:
    assert (digest_of({"y": one}) == digest_of({"y": other})) == (repr(one) == repr(other))


@pytest.mark.parametrize("value", [{1}, object(), 1j])
def test_what_no_answer_can_hold_has_none(value) -> None:
    with pytest.raises(TypeError, match="has no digest"):
        digest_of({"y": [value]})
