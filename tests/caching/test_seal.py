"""An answer can be read back by its own key, and only whole."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caching.plain_values import VALUES, bits
from pelton.caching.encoding import Malformed, encode
from pelton.caching.entry import entry_of
from pelton.caching.seal import MAGIC, sealed, unsealed

KEY = hashlib.sha256(b"key").digest()
ENTRY = entry_of({"y": np.arange(3.0), "n": [1, {"a": None}]}, "sha256:d")


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.text(max_size=3))
@settings(max_examples=50)
def test_what_is_sealed_can_be_read_by_its_key_alone(outputs, digest) -> None:
    content = sealed(KEY, entry_of(outputs, digest))
    entry = unsealed(KEY, content)
    assert (bits(entry.outputs), entry.digest) == (bits(outputs), digest)
    with pytest.raises(Malformed):
        unsealed(bytes(32), content)


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data) -> None:
    content = bytearray(sealed(KEY, ENTRY))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        unsealed(KEY, bytes(content))


@pytest.mark.parametrize("value", [1, [], ["d"], ["d", []], ["d", {1: 2}], [1, {}], ["d", {}, 1]])
def test_what_is_sealed_and_yet_no_answer_is_refused(value) -> None:
    content = b"".join(encode(value))
    seal = hashlib.sha256(MAGIC + KEY + content).digest()
    with pytest.raises(Malformed):
        unsealed(KEY, MAGIC + seal + content)
