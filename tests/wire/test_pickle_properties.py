"""For all plain values: what the standard library writes is read, and the other way round."""

from __future__ import annotations

import pickle
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.pickles.alike import NUMPY_1, assert_alike
from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickled import PickleStyle, decode, encode

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
KEYS = st.text() | st.binary() | st.booleans() | st.none() | st.floats(allow_nan=False) | INT64
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="="),
    hnp.timedelta64_dtypes(endianness="="),
    hnp.byte_string_dtypes(max_len=5),
    hnp.unicode_string_dtypes(endianness="=", max_len=5),
)
SHAPES = hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4)
UNICODE = st.characters(codec="utf-8")  # lone surrogates are refused


def arrays_of(shape: Any) -> st.SearchStrategy[Any]:
    return DTYPES.flatmap(
        lambda dtype: hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, alphabet=UNICODE))
    )


ARRAYS = arrays_of(SHAPES)
SCALARS = arrays_of(1).map(lambda array: array[0])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.binary().map(bytearray),
    st.sets(KEYS),
    st.frozensets(KEYS),
    ARRAYS,
    SCALARS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=6)
    ),
    max_leaves=12,
)
PROTOCOLS = st.integers(2, 5)
STYLES = st.builds(PickleStyle, PROTOCOLS, st.booleans(), st.just(False)) | st.builds(
    PickleStyle, st.just(5), st.booleans(), st.just(True)
)


def read(chunks: list[bytes | memoryview]) -> Any:
    return decode(b"".join(chunks), Limits())


def refusal_of(body: bytes) -> str | None:
    try:
        decode(body, Limits())
    except InvalidRequest as refused:
        return refused.message
    return None


@given(value=VALUES, protocol=PROTOCOLS)
def test_what_the_standard_library_writes_is_read(value: Any, protocol: int) -> None:
    decoded, style = decode(pickle.dumps(value, protocol), Limits())
    assert_alike(decoded, value)
    assert style.protocol == protocol
    assert not style.out_of_band


@given(value=VALUES, protocol=PROTOCOLS, old_numpy=st.sampled_from([True, NUMPY_1]))
def test_the_standard_library_reads_what_is_written(
    value: Any, protocol: int, old_numpy: bool
) -> None:
    written = b"".join(encode(value, PickleStyle(protocol, old_numpy, False)))
    assert_alike(pickle.loads(written), value)


@given(value=VALUES, style=STYLES)
def test_what_is_written_is_read_again(value: Any, style: PickleStyle) -> None:
    decoded, again = read(encode(value, style))
    assert_alike(decoded, value)
    assert (again.protocol, again.out_of_band) == (style.protocol, style.out_of_band)


@given(array=ARRAYS, axes=st.randoms(use_true_random=False), style=STYLES)
def test_any_layout_in_memory_is_written_and_read(
    array: np.ndarray, axes: Any, style: PickleStyle
) -> None:
    order = list(range(array.ndim))
    axes.shuffle(order)
    layout = array.transpose(order)[..., ::-1] if array.ndim else array
    for given_layout in (array.transpose(order), np.asfortranarray(array), layout):
        assert_alike(read(encode(given_layout, style))[0], given_layout)
        assert_alike(decode(pickle.dumps(given_layout, style.protocol), Limits())[0], given_layout)


@settings(max_examples=300)
@given(body=st.binary(max_size=60), protocol=PROTOCOLS)
def test_any_bytes_are_read_or_refused(body: bytes, protocol: int) -> None:
    for stream in (body, bytes((0x80, protocol)) + body + b".", b"PELTON5B" + body):
        message = refusal_of(stream)
        assert message is None or (message.startswith("pickle: ") and len(message) < 400)
