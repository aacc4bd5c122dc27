"""Small pickles that stand for large values: the work and the memory are bounded.

Times are not measured here; each of these would take minutes or gigabytes if it were followed.
"""

from __future__ import annotations

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickle_values import MAX_NUMBER_KEYS
from pelton.wire.pickled import decode

MIB = 2**20


def refused(body: bytes, limits: Limits | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest, match=r"\Apickle: ") as caught:
        decode(body, limits or Limits())
    return caught.value


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_nesting_has_a_limit() -> None:
    assert decode(pickle.dumps(nested(64), 5), Limits())[0] == nested(64)
    assert refused(pickle.dumps(nested(65), 5)).message == "pickle: nested more than 64 deep"
    assert refused(pickle.dumps(nested(4), 5), Limits(max_json_depth=3))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_array_may_lie_at_the_bottom(protocol: int) -> None:
    value: list[object] = ["x", np.array(["2020-01-01"], "M8[D]"), np.datetime64("2020-01-01")]
    for _ in range(63):
        value = ["x", value]
    decoded, _ = decode(pickle.dumps(value, protocol), Limits())
    for _ in range(63):
        decoded = decoded[1]
    assert decoded[1] == decoded[2] == np.datetime64("2020-01-01")


@pytest.mark.parametrize(
    "body",
    [
        b"]" * 90_000 + b"a" * 89_999,
        b")" + b"\x85" * 190_000,
        b"}K\x01" * 40_000 + b"N" + b"s" * 40_000,
        b"(" * 67 + b"t" * 67,
    ],
    ids=["lists", "tuples", "dicts", "marks"],
)
def test_what_is_nested_very_deep_is_refused(body: bytes) -> None:
    assert refused(b"\x80\x05" + body + b".").message == "pickle: nested more than 64 deep"


@pytest.mark.parametrize("body", [b"(" * 100_000 + b"t" * 99_999, b"](N" * 68 + b"e" * 68])
def test_open_marks_have_a_limit(body: bytes) -> None:
    told = refused(b"\x80\x05" + body + b".").message
    assert told == "pickle: opcode MARK is nested more than 67 deep"


def test_a_limit_beyond_the_stack_of_python_ends_as_a_refusal() -> None:
    body = b"\x80\x05" + b"]" * 90_000 + b"a" * 89_999 + b"."
    told = refused(body, Limits(max_json_depth=100_000)).message
    assert told == "pickle: nested deeper than Python can follow"


def test_deep_tuples_are_never_hashed() -> None:
    deep = b")" + b"\x85" * 50_000
    assert "is not allowed as a key" in refused(b"\x80\x05}" + deep + b"Ns.").message
    assert "is not allowed as a key" in refused(b"\x80\x05\x8f(" + deep + b"\x90.").message
    assert "is not allowed as a key" in refused(b"\x80\x05(" + deep + b"\x91.").message
    assert (
        "is not allowed as a key"
        in refused(b"\x80\x05cbuiltins\nset\n]" + deep + b"a\x85R.").message
    )


def laughs(levels: int, width: int) -> bytes:
    """Spell a list that holds one list `width` times, that one another, and so on."""
    body = b"\x80\x05("
    for level in range(levels):
        inner = b"N" * width if level == 0 else (b"h" + bytes((level - 1,))) * width
        body += b"]q" + bytes((level,)) + b"(" + inner + b"e"
    return body + b"t."


def test_a_billion_laughs() -> None:
    assert decode(laughs(2, 10), Limits())[0] == ([None] * 10, [[None] * 10] * 10)
    error = refused(laughs(10, 10))
    assert error.code is Code.TOO_LARGE
    assert error.message == (
        "pickle: more than 200000 values, each counted as often as it is referred to"
    )


@pytest.mark.parametrize("empty", [b"]", b"}", b"\x8f", b")"])
def test_empty_containers_are_counted_as_well(empty: bytes) -> None:
    body = (
        b"\x80\x05(" + empty + b"q\x00](" + b"h\x00" * 1000 + b"eq\x01](" + b"h\x01" * 1000 + b"et."
    )
    assert "more than 200000 values" in refused(body).message


@pytest.mark.parametrize(
    "body",
    [
        b"]q\x00h\x00a",
        b"]q\x00(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00e",
        b"}q\x00K\x01h\x00s",
        b"]q\x00(h\x00ta",
        b"](}q\x00K\x01](h\x00ese",
    ],
)
def test_a_container_in_itself_is_refused(body: bytes) -> None:
    assert refused(b"\x80\x05" + body + b".").message == "pickle: nested more than 64 deep"


def test_recursive_values_of_the_standard_library_are_refused() -> None:
    recursive: list[object] = []
    recursive.append(recursive)
    mapping: dict[str, object] = {}
    mapping["self"] = mapping
    pair: tuple[list[object]] = ([],)
    pair[0].append(pair)
    for value in (recursive, mapping, pair):
        assert refused(pickle.dumps(value, 5))


def test_values_do_not_share_what_can_be_changed() -> None:
    shared = [1, {"a": bytearray(b"x")}]
    (first, second), _ = decode(pickle.dumps([shared, shared], 5), Limits())
    first[1]["a"] += b"y"
    first.append(2)
    assert second == [1, {"a": bytearray(b"x")}]
    numbers = [1, 2]
    (first, second), _ = decode(pickle.dumps([numbers, numbers], 5), Limits())
    first.append(3)
    assert second == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        "x" * MIB,
        b"x" * MIB,
        bytearray(b"x" * MIB),
        np.zeros(MIB, np.uint8),
        np.zeros(MIB, np.bool_),
        np.zeros(MIB // 4, "U1"),
        np.bytes_(b"x" * MIB),
    ],
    ids=["text", "bytes", "bytearray", "array", "bools", "characters", "scalar"],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_bytes_are_counted_as_often_as_they_are_referred_to(value: object, protocol: int) -> None:
    assert len(decode(pickle.dumps([value] * 60, protocol), Limits())[0]) == 60
    error = refused(pickle.dumps([value] * 10_000, protocol))
    assert error.code is Code.TOO_LARGE
    assert error.message == (
        "pickle: more than 67108864 bytes in its values, each counted as often as it is referred to"
    )


@pytest.mark.parametrize("key", [b"X\x00\x00\x10\x00", b"B\x00\x00\x10\x00"])
def test_keys_are_counted_as_often_as_they_are_referred_to(key: bytes) -> None:
    body = b"\x80\x05](" + key + b"k" * MIB + b"q\x00" + b"}h\x00Ns" * 5000 + b"e."
    assert refused(body).code is Code.TOO_LARGE


def test_bytes_that_are_made_again_and_again_are_counted() -> None:
    text = b"X\x00\x00\x10\x00" + b"k" * MIB
    first = b"c_codecs\nencode\nq\x02" + text + b"X\x06\x00\x00\x00latin1\x86q\x01R"
    body = b"\x80\x02](" + first + b"h\x02h\x01R" * 5000 + b"e."
    tracemalloc.start()
    try:
        error = refused(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code is Code.TOO_LARGE
    assert peak < 80 * MIB


def test_a_set_that_is_made_again_and_again_is_counted() -> None:
    members = b"](" + b"".join(b"\x8c\x04%04d" % n for n in range(5000)) + b"e\x85q\x01"
    again = b"h\x02h\x01R" * 5000
    body = b"\x80\x05(" + members + b"cbuiltins\nset\nq\x02h\x01R" + again + b"t."
    assert "more than 200000 values" in refused(body).message


def test_opcodes_have_a_limit() -> None:
    body = b"\x80\x05" + b"N" * 97 + b"."
    assert "not exactly one value" in refused(body, Limits(max_pickle_ops=98)).message
    error = refused(body, Limits(max_pickle_ops=97))
    assert (error.code, error.message) == (Code.TOO_LARGE, "pickle: more than 97 opcodes")


def test_number_keys_have_a_limit() -> None:
    fits = dict.fromkeys(range(MAX_NUMBER_KEYS))
    assert decode(pickle.dumps(fits, 5), Limits())[0] == fits
    for value in (
        dict.fromkeys(range(MAX_NUMBER_KEYS + 1)),
        set(range(MAX_NUMBER_KEYS + 1)),
        frozenset(n / 2 for n in range(MAX_NUMBER_KEYS + 1)),
        [{n: 1, n + 1: 2, n + 2: 3} for n in range(MAX_NUMBER_KEYS // 2)],
    ):
        for protocol in (2, 5):
            told = refused(pickle.dumps(value, protocol)).message
            assert told == "pickle: more than 10000 keys are numbers"
    texts = {str(n): None for n in range(2 * MAX_NUMBER_KEYS)}
    assert decode(pickle.dumps(texts, 5), Limits())[0] == texts


def test_keys_whose_hashes_are_equal_are_refused() -> None:
    """Multiples of 2**61 - 1 all hash to zero; of at most 63 bits there are few."""
    modulus = 2**61 - 1
    assert {hash(modulus * n) for n in range(100)} == {0}
    told = refused(pickle.dumps({modulus * n: None for n in range(5000)}, 5)).message
    assert told == "pickle: a key is an integer of more than 63 bits"


@pytest.mark.parametrize("key", [(1, 2), 1j, frozenset({1}), 2**63, np.float32(1), np.array(1)])
def test_keys_are_plain(key: object) -> None:
    spelled = pickle.dumps(key, 5)[2:-1]
    if spelled[0] == 0x95:
        spelled = spelled[9:]
    body = b"\x80\x05}" + spelled.replace(b"\x94", b"") + b"Ns."
    assert "key" in refused(body).message


def test_a_dict_has_each_key_once() -> None:
    for pairs in (b"K\x01NK\x01N", b"K\x01N\x88N", b"K\x01NG?\xf0\x00\x00\x00\x00\x00\x00N"):
        assert refused(b"\x80\x05}(" + pairs + b"u.").message == (
            "pickle: a dict has the same key twice"
        )


def test_integers_have_a_limit() -> None:
    largest = 2 ** (8 * 255 - 1) - 1
    assert decode(pickle.dumps([largest, -largest - 1], 5), Limits())[0] == [largest, -largest - 1]
    assert refused(pickle.dumps(largest + 1, 5)).message == "pickle: opcode LONG4 is not allowed"


def test_a_hundred_thousand_floats_fit() -> None:
    value = [n / 2 for n in range(100_000)]
    assert decode(pickle.dumps(value, 5), Limits())[0] == value


def test_many_arrays_fit() -> None:
    value = [np.full(2, n, "f4") for n in range(5000)]
    decoded, _ = decode(pickle.dumps(value, 5), Limits())
    assert [array[1] for array in decoded] == list(range(5000))


def test_an_array_of_nothing_takes_no_time_to_visit() -> None:
    huge = struct.pack("<BBq", 0x8A, 8, 2**62)
    kind = b"cnumpy\ndtype\n\x8c\x02S0\x89\x88\x87R(K\x03\x8c\x01|NNNK\x00K\x01K\x00tb"
    body = b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C\x00" + kind + huge + b"\x85\x8c\x01CtR."
    assert "whose elements have no bytes" in refused(body).message
