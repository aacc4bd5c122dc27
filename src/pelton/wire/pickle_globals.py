"""The few names that a pickle of plain data and arrays needs, each as a token.

Calling a token makes an inert record and nothing else: no name is ever imported or looked up, and
no function or class that a pickle names is ever called. Which pickler writes which
name is drawn up in `docs/wire.md`; numpy 1.x says `numpy.core` where numpy 2.x says `numpy._core`.
"""

from __future__ import annotations

from collections.abc import Callable

from pelton.wire.pickle_arrays import check_code
from pelton.wire.pickle_records import (
    ArrayContent,
    Global,
    RawArray,
    RawBytearray,
    RawDtype,
    RawLatin1,
    RawScalar,
    RawSet,
    describe,
    quoted,
    refusal,
)

NEW_NUMPY = "numpy._core."
"""How numpy 2.x begins the names of its private modules."""

_OLD_NUMPY = "numpy.core."

_NDARRAY = Global("numpy.ndarray")


def _reconstruct(args: tuple[object, ...]) -> RawArray:
    """`_reconstruct(ndarray, (0,), b"b")`: an array whose content BUILD will bring."""
    match args:
        case (kind, (0,), memoryview() | RawLatin1()) if kind is _NDARRAY:
            return RawArray()
    raise refusal("numpy's _reconstruct is called in a way that numpy does not call it")


def _frombuffer(args: tuple[object, ...]) -> RawArray:
    """`_frombuffer(buffer, dtype, shape, order)`, since numpy 2.3.5 also with `axis_order`."""
    if len(args) not in (4, 5):
        raise refusal("numpy's _frombuffer is called in a way that numpy does not call it")
    return RawArray(ArrayContent(*args))


def _scalar(args: tuple[object, ...]) -> RawScalar:
    if len(args) != 2:
        raise refusal("numpy's scalar is called in a way that numpy does not call it")
    return RawScalar(*args)


def _dtype(args: tuple[object, ...]) -> RawDtype:
    """`dtype("f8", False, True)`: align is off, and the dtype is a copy."""
    match args:
        case (str(code), False | 0, True | 1):
            check_code(code)
            return RawDtype(code)
    raise refusal("numpy.dtype is called in a way that numpy does not call it")


def _encode(args: tuple[object, ...]) -> RawLatin1:
    """`_codecs.encode(text, "latin1")`, and no other codec."""
    match args:
        case (str(text), "latin1"):
            return RawLatin1(text)
        case (str(), str(codec)):
            raise refusal(f"_codecs.encode with the codec {quoted(codec)} is not allowed")
    raise refusal("_codecs.encode is called in a way that no pickler calls it")


def _bytes(args: tuple[object, ...]) -> RawLatin1:
    if args:
        raise refusal("bytes is called with arguments")
    return RawLatin1("")


def _bytearray(args: tuple[object, ...]) -> RawBytearray:
    match args:
        case ():
            return RawBytearray(RawLatin1(""))
        case (memoryview() | RawLatin1() as data,):
            return RawBytearray(data)
    raise refusal("bytearray is called with something other than bytes")


def _complex(args: tuple[object, ...]) -> complex:
    match args:
        case (float(real), float(imag)):
            return complex(real, imag)
    raise refusal("complex is called with something other than two floats")


def _set_maker(frozen: bool) -> Callable[[tuple[object, ...]], RawSet]:
    def make(args: tuple[object, ...]) -> RawSet:
        match args:
            case (list(members),):
                return RawSet(members, frozen)
        raise refusal("set or frozenset is called with something other than a list")

    return make


def _table() -> dict[tuple[str, str], Global]:
    table = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): Global("numpy.dtype", _dtype),
        ("_codecs", "encode"): Global("_codecs.encode", _encode),
    }
    for prefix in (_OLD_NUMPY, NEW_NUMPY):
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        ):
            table[prefix + module, name] = Global(f"{prefix}{module}.{name}", call)
    for module in ("builtins", "__builtin__"):
        table[module, "bytes"] = Global("bytes", _bytes)
        table[module, "bytearray"] = Global("bytearray", _bytearray)
        table[module, "complex"] = Global("complex", _complex)
        table[module, "set"] = Global("set", _set_maker(frozen=False))
        table[module, "frozenset"] = Global("frozenset", _set_maker(frozen=True))
    return table


_GLOBALS = _table()


def find_global(module: str, name: str) -> Global:
    """Return the token for a name.

    Raises:
        InvalidRequest: the name is not one of the few.
    """
    token = _GLOBALS.get((module, name))
    if token is None:
        raise refusal(
            f"global {quoted(f'{module}.{name}')} is not allowed; plain data and arrays are"
        )
    return token


def call(function: object, args: object) -> object:
    """Make the record that REDUCE stands for.

    Raises:
        InvalidRequest: `function` is no token that can be called, or `args` are not its own.
    """
    if type(function) is not Global or function.call is None:
        raise refusal(f"opcode REDUCE on {describe(function)} is not allowed")
    if type(args) is not tuple:
        raise refusal(f"opcode REDUCE with {describe(args)} in place of a tuple")
    return function.call(args)


def build(target: object, state: object) -> None:
    """Give a dtype or an array the state that BUILD brings, once.

    Raises:
        InvalidRequest: the target takes no state, has it already, or the state has another form.
    """
    if type(state) is not tuple:
        raise refusal(f"opcode BUILD with {describe(state)} in place of a tuple")
    if type(target) is RawDtype and target.state is None:
        target.state = state
    elif type(target) is RawArray and target.content is None:
        match state:
            case (1, shape, dtype, bool(is_fortran), data):
                target.content = ArrayContent(data, dtype, shape, "F" if is_fortran else "C")
            case _:
                raise refusal("an array's state is not of the form that numpy writes")
    else:
        raise refusal(f"opcode BUILD on {describe(target)} is not allowed")
