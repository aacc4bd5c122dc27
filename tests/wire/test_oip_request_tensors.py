"""The tensors of a request: checks B on shapes, elements, binary data and memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.oip_message import parse_header_length
from pelton.wire.oip_request import decode_request
from wire.oip_bodies import (
    LIMITS,
    assert_refused,
    binary_input,
    decode,
    joined,
    json_input,
    model,
)

X = json_input("x", "INT32", [2], [1, 2])


def with_x(**fields: object) -> dict[str, object]:
    return {"inputs": [X], **fields}


# B7 to B12: shapes and datatypes


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([-1], "dimension -1"),
        ([2, -2], "dimension -2"),
        ([2.0], "dimension 2.0"),
        ([True], "dimension True"),
        (["2"], "dimension '2'"),
        ([None], "dimension None"),
        ([2**63], "dimension 9223372036854775808"),
        ([1] * 33, "33 dimensions"),
        ([1] * 1000, "1000 dimensions"),
    ],
)
def test_b7_b11_shapes(shape: list[object], says: str) -> None:
    assert_refused({"inputs": [json_input("x", "INT32", shape, [1, 2])]}, says=says)
    assert_refused({"inputs": [binary_input("x", "INT32", shape, 8)]}, bytes(8), says=says)


@pytest.mark.parametrize("shape", [None, 2, "2", {}])
def test_b11_shape_is_no_list(shape: object) -> None:
    assert_refused({"inputs": [{**X, "shape": shape}]}, says='"shape" must be a list')


@pytest.mark.parametrize(
    "shape", [[2**32, 2**32], [2**4, 2**60 + 2], [2**62, 4], [2**63 - 1] * 32, [2**33]]
)
@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "BF16", "BYTES"])
def test_b8_products_that_overflow(shape: list[int], datatype: str) -> None:
    assert_refused({"inputs": [binary_input("x", datatype, shape, 8)]}, bytes(8), says="input 'x'")
    if datatype != "BF16":
        json_data = {"inputs": [json_input("x", datatype, shape, [1, 2])]}
        assert_refused(json_data, says="elements")


@pytest.mark.parametrize("data", [[1], [1, 2, 3], [], [[1], [2], [3]]])
def test_b9_shape_against_data(data: list[object]) -> None:
    assert_refused({"inputs": [json_input("x", "INT32", [2], data)]}, says="needs 2 elements")


@pytest.mark.parametrize("size", [0, 7, 9, 4, 16])
def test_b9_shape_against_bytes(size: int) -> None:
    assert_refused(
        {"inputs": [binary_input("x", "INT32", [2], size)]},
        bytes(size),
        says=f"need 8 bytes, but {size} came",
    )


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1, 2], 3], [1, [2, 3]], [[[1], [2]], [3, 4]]])
def test_ragged_data(data: list[object]) -> None:
    with pytest.raises(InvalidRequest, match=r"unequal length or depth|elements"):
        decode({"inputs": [json_input("x", "INT32", [4], data)]})


def test_b10_zero_sizes_are_served_empty() -> None:
    request, _ = decode(
        {"inputs": [json_input("x", "FP32", [0, 3], []), binary_input("y", "INT8", [2, 0], 0)]}
    )
    assert (request.inputs["x"].shape, request.inputs["x"].dtype) == ((0, 3), np.float32)
    assert (request.inputs["y"].shape, request.inputs["y"].dtype) == ((2, 0), np.int8)


def test_b10_zero_beside_dimensions_beyond_any_memory() -> None:
    for datatype in ("FP32", "BYTES", "BOOL", "BF16"):
        entry = binary_input("x", datatype, [0, 2**62, 2**62], 0)
        assert_refused({"inputs": [entry]}, says="dimensions are too large")
    entry = json_input("x", "INT32", [0, 2**62, 2**62], [])
    assert_refused({"inputs": [entry]}, says="dimensions are too large")


@pytest.mark.parametrize("datatype", ["fp32", "OBJECT", "FLOAT", "", None, 5, ["FP32"], "x" * 9999])
def test_b12_datatypes(datatype: object) -> None:
    assert_refused({"inputs": [{**X, "datatype": datatype}]}, says="unknown datatype")


# B13, B4: elements


@pytest.mark.parametrize(
    ("datatype", "element", "says"),
    [
        ("UINT8", 300, "300 is out of the range of UINT8"),
        ("UINT8", -1, "-1 is out of the range of UINT8"),
        ("INT8", 128, "out of the range"),
        ("INT64", 2**63, "out of the range of INT64"),
        ("INT64", -(2**63) - 1, "out of the range of INT64"),
        ("UINT64", 2**64, "out of the range of UINT64"),
        ("UINT64", 10**4000, "an integer of 13288 bits is out of the range"),
        ("INT32", 1.5, "1.5 is no element of INT32"),
        ("INT32", 1.0, "1.0 is no element of INT32"),
        ("INT32", True, "True is no element of INT32"),
        ("INT32", "1", "'1' is no element of INT32"),
        ("INT32", None, "None is no element of INT32"),
        ("INT32", {"a": 1}, "a dict is no element of INT32"),
        ("BOOL", 1, "1 is no element of BOOL"),
        ("BOOL", "true", "'true' is no element of BOOL"),
        ("FP32", True, "True is no element of FP32"),
        ("FP32", "1.0", "'1.0' is no element of FP32"),
        ("FP32", "nan", "'nan' is no element of FP32"),
        ("FP32", None, "None is no element of FP32"),
        ("FP32", 1e39, "1e+39 is out of the range of FP32"),
        ("FP64", 10**400, "out of the range of FP64"),
        ("BYTES", 3, "3 is no element of BYTES"),
        ("BYTES", None, "None is no element of BYTES"),
        ("FP16", 1.0, "FP16 has no JSON form; send it as binary data"),
        ("BF16", 1.0, "BF16 has no JSON form; send it as binary data"),
    ],
)
def test_b13_elements(datatype: str, element: object, says: str) -> None:
    assert_refused({"inputs": [json_input("x", datatype, [1], [element])]}, says=says)
    good = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    data = [good, element, good]
    assert_refused({"inputs": [json_input("x", datatype, [3], data)]}, says=says)


def test_b4_integers_are_exact_to_the_ends_of_their_ranges() -> None:
    request, _ = decode(
        {
            "inputs": [
                json_input("u", "UINT64", [2], [2**64 - 1, 2**53 + 1]),
                json_input("i", "INT64", [2], [-(2**63), 2**63 - 1]),
            ]
        }
    )
    assert request.inputs["u"].tolist() == [2**64 - 1, 2**53 + 1]
    assert request.inputs["i"].tolist() == [-(2**63), 2**63 - 1]


def test_floats_that_are_not_finite_come_by_name() -> None:
    data = ["NaN", "Infinity", "-Infinity", 1, 2.5]
    request, _ = decode({"inputs": [json_input("x", "FP32", [5], data)]})
    expected = np.array([np.nan, np.inf, -np.inf, 1, 2.5], np.float32)
    np.testing.assert_array_equal(request.inputs["x"], expected, strict=True)


def test_b2_the_bare_words_are_refused() -> None:
    for word in (b"NaN", b"Infinity", b"1e999"):
        raw = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[' + word + b"]}]}"
        with pytest.raises(InvalidRequest) as caught:
            decode(raw)
        assert caught.value.code is Code.MALFORMED_REQUEST


# B14, B15: the binary part


@pytest.mark.parametrize("size", [-1, 8.0, "8", True, 2**63, 9, [8], 1e300])
def test_b14_binary_data_size(size: object) -> None:
    header = {"inputs": [binary_input("x", "INT32", [2], size)]}
    with pytest.raises(InvalidRequest, match=r"binary_data_size|parameter") as caught:
        decode(header, bytes(8))
    assert "input 'x'" in caught.value.message


def test_b14_null_is_no_size() -> None:
    assert_refused(
        {"inputs": [binary_input("x", "INT32", [2], None)]}, bytes(8), says="'binary_data_size' of"
    )


def test_b14_the_second_tensor_may_only_take_what_the_first_left() -> None:
    header = {"inputs": [binary_input(name, "UINT8", [6], 6) for name in "ab"]}
    assert_refused(header, bytes(10), says="input 'b'", code=Code.MALFORMED_REQUEST)


def test_b14_bytes_that_nobody_named() -> None:
    header = {"inputs": [binary_input("x", "INT32", [2], 8)]}
    code = Code.MALFORMED_REQUEST
    assert_refused(header, bytes(9), says="8 bytes of binary data, but 9 follow", code=code)
    assert_refused(with_x(), b"\x00", says="0 bytes of binary data, but 1 follow", code=code)


def test_data_and_binary_data_exclude_each_other() -> None:
    both = {**X, "parameters": {"binary_data_size": 8}}
    assert_refused({"inputs": [both]}, bytes(8), says='either "data" or')
    neither = {key: value for key, value in X.items() if key != "data"}
    assert_refused({"inputs": [neither]}, says='either "data" or')
    assert_refused({"inputs": [{**X, "data": None}]}, says='"data" must be a list')
    assert_refused({"inputs": [{**X, "data": 3}]}, says='"data" must be a list')


def test_b15_header_longer_than_the_body() -> None:
    body, size = joined(with_x())
    for header_bytes in (size + 1, 10**14):
        with pytest.raises(InvalidRequest, match=f"is {header_bytes}, but the body has {size}"):
            decode_request(body, header_bytes, model(), LIMITS)


@pytest.mark.parametrize("value", ["0", "17", "007", "9" * 15])
def test_header_length(value: str) -> None:
    assert parse_header_length(value.encode()) == int(value)
    assert parse_header_length(value) == int(value)


@pytest.mark.parametrize(
    "value",
    [b"", b"-1", b"+5", b" 5", b"5 ", b"5\n", b"1_000", b"0x10", b"1.0", b"9" * 16, b"\xb2",
     "\u0665".encode(), b"1e3", b"9" * 5000],
)  # fmt: skip
def test_b15_header_length_is_digits_only(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_header_length(value)
    assert caught.value.code is Code.MALFORMED_REQUEST
    assert len(caught.value.message) < 120


# BYTES and BOOL as binary data


def elements(*each: bytes) -> bytes:
    return b"".join(len(one).to_bytes(4, "little") + one for one in each)


def test_bytes_elements_are_copies_of_their_own_length() -> None:
    raw = elements(b"", b"a\x00", b"\xff" * 300)
    header = {"inputs": [binary_input("x", "BYTES", [3], len(raw))]}
    request, _ = decode(header, raw)
    assert request.inputs["x"].tolist() == [b"", b"a\x00", b"\xff" * 300]
    assert all(type(each) is bytes for each in request.inputs["x"])


@pytest.mark.parametrize(
    "raw",
    [
        elements(b"abcd", b"")[:-1],
        elements(b"abcd") + b"\x00\x00",
        elements(b"a", b"b") + b"\x00",
        elements(b"a", b"b", b""),
        b"\xff\xff\xff\xff" + bytes(8),
        bytes(4) + b"\x05\x00\x00\x00abcd",
        b"\x02\x00\x00\x00ab\x00\x00\x00",
    ],
)
def test_lengths_of_bytes_elements_that_lie(raw: bytes) -> None:
    header = {"inputs": [binary_input("x", "BYTES", [2], len(raw))]}
    assert_refused(header, raw, says="not 2 elements", code=Code.MALFORMED_REQUEST)


def test_more_bytes_elements_than_could_be_there_are_not_looked_for() -> None:
    header = {"inputs": [binary_input("x", "BYTES", [10**9], 8)]}
    assert_refused(header, bytes(8), says="need more than 8 bytes")


def test_b17_a_bool_of_two() -> None:
    header = {"inputs": [binary_input("x", "BOOL", [4], 4)]}
    assert_refused(header, b"\x00\x01\x02\x01", says="there is a 2")
    request, _ = decode(header, b"\x00\x01\x01\x00")
    assert request.inputs["x"].tolist() == [False, True, True, False]
    assert request.inputs["x"].dtype == np.bool_


# B18: memory


@pytest.mark.parametrize(
    ("datatype", "bytes_each"), [("FP32", 4), ("FP64", 8), ("INT64", 8), ("UINT8", 1)]
)
def test_b18_expansion_of_small_integers(datatype: str, bytes_each: int) -> None:
    header = {"inputs": [json_input("x", datatype, [1000], [1] * 1000)]}
    decode(header, limits=Limits(max_body_bytes=1000 * bytes_each))
    assert_refused(
        header,
        says=f"would take {1000 * bytes_each} bytes",
        code=Code.TOO_LARGE,
        limits=Limits(max_body_bytes=1000 * bytes_each - 1),
    )


def test_b18_expansion_is_counted_over_all_inputs() -> None:
    header = {"inputs": [json_input(name, "FP64", [100], [1] * 100) for name in "ab"]}
    limits = Limits(max_body_bytes=1599)
    assert_refused(header, says="1600 bytes", code=Code.TOO_LARGE, limits=limits)


def test_b18_expansion_of_bfloat16_and_of_empty_bytes_elements() -> None:
    header = {"inputs": [binary_input("x", "BF16", [1000], 2000)]}
    limits = Limits(max_body_bytes=3999)
    assert_refused(header, bytes(2000), says="4000", code=Code.TOO_LARGE, limits=limits)
    header = {"inputs": [binary_input("x", "BYTES", [1000], 4000)]}
    limits = Limits(max_body_bytes=40_000)
    assert_refused(header, bytes(4000), says="52000", code=Code.TOO_LARGE, limits=limits)


def test_b18_nothing_is_allocated_before_the_check() -> None:
    count = 200_000
    body, size = joined(
        {"inputs": [binary_input("x", "BF16", [count], 2 * count)]}, bytes(2 * count)
    )
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            decode_request(body, size, model(), Limits(max_body_bytes=4 * count - 1))
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()


def test_too_many_tensors() -> None:
    limits = Limits(max_tensors=2)
    inputs = [json_input(str(n), "INT8", [1], [1]) for n in range(3)]
    decode({"inputs": inputs[:2], "outputs": [{"name": "p"}]}, limits=limits)
    assert_refused({"inputs": inputs}, says="3 items; at most 2", limits=limits)
    outputs = [{"name": str(n)} for n in range(3)]
    assert_refused(with_x(outputs=outputs), says="3 items; at most 2", limits=limits)
