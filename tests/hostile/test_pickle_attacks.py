"""Pickles that attack: each is refused by the name of what it tried, and nothing happens.

C1 to C20 number the checks of the pickle endpoint; C10 to C15 are in `test_pickle_lengths.py`, C19
is in `test_pickle_fuzz.py` and C20 in `tests/wire/test_pickle_compat.py`.
"""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import importlib
import os
import pathlib
import pickle
import pickletools
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from golden.pickles.alike import NUMPY_1
from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickle_opcodes import Op
from pelton.wire.pickled import decode, encode

READ = {
    *(Op.MARK, Op.STOP, Op.REDUCE, Op.BUILD, Op.GLOBAL, Op.STACK_GLOBAL, Op.FRAME, Op.PROTO),
    *(Op.NONE, Op.NEWTRUE, Op.NEWFALSE, Op.BININT, Op.BININT1, Op.BININT2, Op.LONG1, Op.BINFLOAT),
    *(Op.BINUNICODE, Op.SHORT_BINUNICODE, Op.BINUNICODE8),
    *(Op.BINBYTES, Op.SHORT_BINBYTES, Op.BINBYTES8, Op.BYTEARRAY8, Op.NEXT_BUFFER),
    *(Op.READONLY_BUFFER, Op.EMPTY_LIST, Op.APPEND, Op.APPENDS, Op.EMPTY_TUPLE, Op.TUPLE),
    *(Op.TUPLE1, Op.TUPLE2, Op.TUPLE3, Op.EMPTY_DICT, Op.SETITEM, Op.SETITEMS, Op.EMPTY_SET),
    *(Op.ADDITEMS, Op.FROZENSET, Op.MEMOIZE, Op.BINPUT, Op.LONG_BINPUT, Op.BINGET),
    Op.LONG_BINGET,
}
"""The opcodes that are read; every other one is refused by its name."""

REFERENCE = pickle.dumps({"instruction": "go", "state": np.arange(6, dtype="f4"), "n": 1}, 5)


@pytest.fixture(autouse=True)
def the_next_client_is_answered_as_before() -> Iterator[None]:
    before = answer_to_reference()
    yield
    assert answer_to_reference() == before


def answer_to_reference() -> bytes:
    value, style = decode(REFERENCE, Limits())
    assert value["state"].tolist() == [0, 1, 2, 3, 4, 5]
    return b"".join(encode(value, style))


def refusal(body: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(InvalidRequest, match=r"\Apickle: ") as caught:
        decode(body, limits or Limits())
    assert caught.value.code is Code.MALFORMED_REQUEST
    assert len(caught.value.message) < 400
    return caught.value.message


class Attack:
    """Pickles as a call of `os.system`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_c1_os_system(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    body = pickle.dumps({"image": Attack(f"touch '{marker}'")}, protocol)
    told = refusal(body)
    if protocol < 2:
        assert told == "pickle: the body does not begin as a pickle of protocol 2 to 5 does"
    else:
        assert f"global '{os.name}.system' is not allowed" in told
    assert not marker.exists()
    pickle.loads(body)
    assert marker.exists(), "the attack is not one, so the test shows nothing"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy._core.numeric", "_frombuffer.__globals__"),
        ("numpy._core.numeric", "builtins.eval"),
        ("numpy", "ndarray.__reduce__"),
        ("numpy", "dtype.__class__"),
        ("builtins", "bytes.fromhex"),
        ("builtins", "getattr"),
        ("builtins", "eval"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("numpy.core.multiarray", "_reconstruct\n"),
        ("numpy", "load"),
        ("numpy.testing._private.utils", "runstring"),
        ("pickle", "loads"),
        ("pkgutil", "resolve_name"),
        ("operator", "attrgetter"),
        ("", ""),
        ("\x00", "\u2028" * 500),
    ],
)
def test_c2_dotted(module: str, name: str) -> None:
    spelled = [
        b"X" + struct.pack("<I", len(text)) + text for text in (module.encode(), name.encode())
    ]
    told = refusal(b"\x80\x04" + b"".join(spelled) + b"\x93.")
    assert told.startswith("pickle: global ")
    assert told.endswith(" is not allowed; plain data and arrays are")
    assert ascii(f"{module}.{name}")[:80] in told
    assert told.isascii()
    assert told.isprintable()


def test_c2_a_global_needs_two_texts() -> None:
    for items in (b"K\x01\x8c\x01a", b"\x8c\x01aK\x01", b"\x8c\x02osC\x06system", b"NN"):
        assert "STACK_GLOBAL without two texts" in refusal(b"\x80\x04" + items + b"\x93.")


def test_c2_a_global_needs_a_whole_line() -> None:
    assert "GLOBAL without a name" in refusal(b"\x80\x02c" + b"a" * 5000 + b"\nb\n.")
    assert "GLOBAL without a name" in refusal(b"\x80\x02cos\nsystem")
    assert "text is not UTF-8" in refusal(b"\x80\x02c\xff\nb\n.")


def test_c3_ext_opcodes() -> None:
    code = 0xF7
    copyreg.add_extension(os.system.__module__, "system", code)
    try:
        body = pickle.dumps(os.system, 2)
        assert pickle.loads(body) is os.system, "the cache of extensions is warm"
        assert refusal(body) == "pickle: opcode EXT1 is not allowed"
    finally:
        copyreg.remove_extension(os.system.__module__, "system", code)


@pytest.mark.parametrize("op", sorted(set(Op) - READ), ids=lambda op: op.name)
def test_c4_every_opcode_that_is_not_needed_is_refused_by_name(op: Op) -> None:
    stack = b"((K\x01K\x01K\x01"
    body = b"\x80\x05" + stack + bytes((op,)) + b"1\n1\n........."
    assert refusal(body) == f"pickle: opcode {op.name} is not allowed"


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(Op)))
def test_c4_every_byte_that_is_no_opcode_is_refused(code: int) -> None:
    told = refusal(b"\x80\x05" + bytes((code,)) + b".")
    assert told == f"pickle: opcode 0x{code:02x}, which no protocol knows, is not allowed"


def test_opcodes_have_the_bytes_of_the_standard() -> None:
    assert {op.name: chr(op) for op in Op} == {op.name: op.code for op in pickletools.opcodes}


def test_a_second_proto_is_refused() -> None:
    assert refusal(b"\x80\x05\x80\x05N.") == "pickle: opcode PROTO is not allowed"


@pytest.mark.parametrize("protocol", [0, 1, 6, 255])
def test_other_protocols_are_refused_by_number(protocol: int) -> None:
    told = refusal(bytes((0x80, protocol)) + b"N.")
    assert told == f"pickle: protocol {protocol} is not taken; write protocol 2 to 5"


def forged_state(field: bytes) -> bytes:
    """Spell a dtype's state with a field that lies a mebibyte behind the element."""
    inner = b"cnumpy\ndtype\n\x8c\x02" + field + b"\x89\x88\x87R"
    fields = b"(\x8c\x01at}\x8c\x01a" + inner + b"J\x00\x00\x10\x00\x86s"
    return b"(K\x03\x8c\x01|N" + fields + b"K\x08K\x01K\x00tb"


@pytest.mark.parametrize("code", ["V8", "f8", "S8", "i8", "M8"])
@pytest.mark.parametrize("field", ["O8", "f8", "V8"])
def test_c5_dtype_forged_object(code: str, field: str) -> None:
    kind = b"cnumpy\ndtype\n\x8c\x02" + code.encode() + b"\x89\x88\x87R"
    data = b"\x96\x08" + bytes(7) + b"A" * 8
    told = refusal(
        b"\x80\x05cnumpy._core.numeric\n_frombuffer\n("
        + (data + kind + forged_state(field.encode()) + b"K\x01\x85\x8c\x01CtR.")
    )
    named = next((name for name in (code, field) if name in ("O8", "V8")), None)
    if named:
        assert told == f"pickle: dtype '{named}' is not allowed; numbers, bool, text and times are"
    else:
        assert told == f"pickle: numpy.dtype('{code}') with a state that numpy does not write"


def test_c5_a_dtype_is_built_once() -> None:
    body = pickle.dumps(np.zeros(1), 4).replace(b"tb\x89", b"tb)b\x89").replace(b"t\x94b", b"tb)b")
    assert "BUILD on numpy.dtype('f8') is not allowed" in refusal(pickletools.optimize(body))


def test_c7_ndarray_newobj_o() -> None:
    args = b"(K\x01\x85\x8c\x01O\x96\x08" + bytes(7) + b"A" * 8 + b"t"
    assert refusal(b"\x80\x05cnumpy\nndarray\n" + args + b"\x81.") == (
        "pickle: opcode NEWOBJ is not allowed"
    )
    assert refusal(b"\x80\x05cnumpy\nndarray\n" + args + b"R.") == (
        "pickle: opcode REDUCE on global 'numpy.ndarray' is not allowed"
    )


def test_c8_build_setattr() -> None:
    room = "numpy.core.numeric" if NUMPY_1 else "numpy._core.numeric"
    function = importlib.import_module(room)._frombuffer
    before = dict(vars(function)), function.__doc__, function.__defaults__
    named = f"c{room}\n_frombuffer\n".encode()
    for state in (b"N}\x8c\x07__doc__\x8c\x05owneds\x86", b"}\x8c\x01a\x8c\x01bs"):
        assert refusal(b"\x80\x05" + named + state + b"b.") in (
            f"pickle: opcode BUILD on global '{room}._frombuffer' is not allowed",
            "pickle: opcode BUILD with a dict in place of a tuple",
        )
    assert (dict(vars(function)), function.__doc__, function.__defaults__) == before


def test_c8_an_array_is_built_once_and_of_no_other_class() -> None:
    whole = pickletools.optimize(pickle.dumps(np.zeros(1), 3))
    state = whole[whole.index(b"(K\x01") : -1]
    assert decode(whole[:-1] + b".", Limits())[0] == 0
    assert refusal(whole[:-1] + state + b".") == ("pickle: opcode BUILD on an array is not allowed")
    for other in (b"cnumpy\ndtype\n", b"N", b"cbuiltins\nset\n"):
        called = b"cnumpy.core.multiarray\n_reconstruct\n" + other + b"K\x00\x85C\x01b\x87R"
        assert "_reconstruct is called in a way" in refusal(b"\x80\x03" + called + b".")


@pytest.mark.parametrize("target", [b"]", b"}", b"\x8f", b")", b"K\x01", b"\x8c\x01a", b"C\x01a"])
def test_c8_nothing_but_a_dtype_or_an_array_is_built(target: bytes) -> None:
    assert "opcode BUILD on " in refusal(b"\x80\x05" + target + b")b.")


@pytest.mark.parametrize("function", [b"]", b"N", b"\x8c\x02os", b"C\x02os", b")", b"\x8f"])
def test_nothing_but_a_token_is_called(function: bytes) -> None:
    assert "opcode REDUCE on " in refusal(b"\x80\x05" + function + b")R.")


def test_a_token_is_called_with_a_tuple() -> None:
    assert "REDUCE with a value of type list" in refusal(b"\x80\x05cbuiltins\nset\n]R.")


@pytest.mark.parametrize(
    "codec", ["rot13", "punycode", "idna", "utf-8", "latin-1", "hex", "zlib", "LATIN1", ""]
)
def test_c16_codec_any(codec: str) -> None:
    spelled = codec.encode()
    body = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX"
    body += struct.pack("<I", len(spelled)) + spelled + b"\x86R."
    assert refusal(body) == f"pickle: _codecs.encode with the codec {codec!r} is not allowed"


def test_c16_only_characters_that_are_bytes_are_bytes() -> None:
    body = b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R."
    assert "hold a character that is no byte" in refusal(body)
    called = b"\x80\x02c_codecs\nencode\nNX\x06\x00\x00\x00latin1\x86R."
    assert "is called in a way that no pickler calls it" in refusal(called)


def structured() -> np.ndarray:
    return np.zeros(2, [("a", "f4"), ("b", "i4")])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array([object(), 1], np.object_), "dtype 'O8' is not allowed"),
        (np.array(["a", None], np.object_), "dtype 'O8' is not allowed"),
        (structured(), "dtype 'V8' is not allowed"),
        (np.void(b"abc"), "dtype 'V3' is not allowed"),
        (np.ma.array([1, 2], mask=[0, 1]), "global 'numpy.ma"),
        (np.float32, "global 'numpy.float32' is not allowed"),
        (np.dtype("f4"), "numpy.dtype('f4') is not allowed as a value"),
        (np.ndarray, "global 'numpy.ndarray' is not allowed as a value"),
        (set, "global 'set' is not allowed as a value"),
        (collections.OrderedDict(a=1), "global 'collections.OrderedDict' is not allowed"),
        (collections.defaultdict(list), "global 'collections.defaultdict' is not allowed"),
        (collections.deque(), "global 'collections.deque' is not allowed"),
        (dt.datetime(2020, 1, 1), "global 'datetime.datetime' is not allowed"),
        (decimal.Decimal(1), "global 'decimal.Decimal' is not allowed"),
        (uuid.UUID(int=1), "global 'uuid."),
        (pathlib.PurePosixPath("/"), "global 'pathlib"),
        (Code.NOT_FOUND, "global 'pelton.errors.Code' is not allowed"),
        (ValueError("x"), "ValueError' is not allowed"),
        (range(3), "range' is not allowed"),
        (slice(1), "slice' is not allowed"),
        (len, "len' is not allowed"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_c18_what_is_no_plain_data_is_named(value: object, told: str, protocol: int) -> None:
    assert told in refusal(pickle.dumps({"a": [value]}, protocol))


def test_c18_string_dtype_is_named() -> None:
    string_dtype = getattr(np.dtypes, "StringDType", None)
    if string_dtype is None:
        pytest.skip("this numpy has no StringDType")
    told = refusal(pickle.dumps(np.array(["a"], dtype=string_dtype()), 5))
    assert "_convert_to_stringdtype_kwargs' is not allowed" in told


def test_c18_what_is_unfinished_is_no_value() -> None:
    unfinished = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    assert refusal(b"\x80\x05" + unfinished + b".") == "pickle: an array without its content"
    assert "an array without its content" in refusal(b"\x80\x05]" + unfinished + b"a.")
    itself = b"(K\x01)" + b"h\x00" + b"\x89h\x00tb."
    assert "an array in place of" in refusal(b"\x80\x05" + unfinished + b"\x94" + itself)


def test_messages_are_short_and_printable() -> None:
    name = "\n\x1b[31m" + "x" * 100_000
    spelled = b"X" + struct.pack("<I", len(name)) + name.encode()
    for body in (spelled + b"\x8c\x01a\x93.", b"cnumpy\ndtype\n" + spelled + b"\x89\x88\x87R."):
        told = refusal(b"\x80\x05" + body)
        assert told.isprintable()
        assert len(told) < 250
