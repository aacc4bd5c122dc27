"""Inert records: what a pickle says, before any of it is believed.

The machine (`pickle_machine.py`) turns opcodes into these; the builder (`pickle_values.py`) turns
them into values and pays for each piece from a budget. Between the two nothing is copied, hashed,
or looked into, so an opcode costs the same however large the thing is that it names. Whatever the
machine holds is one of

* None, bool, int, float, complex, str: as they are;
* memoryview: bytes that lie in the body and have not been copied;
* Lent: bytes that lie beside the pickle;
* list, tuple: containers of such;
* a record of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pelton.errors import Code, InvalidRequest

_SHOWN_CHARS = 80


def refusal(why: str) -> InvalidRequest:
    """Return the error for bytes that are no pickle of plain data; `pickle: ` and `why`."""
    return InvalidRequest(f"pickle: {why}", Code.MALFORMED_REQUEST)


def too_large(why: str) -> InvalidRequest:
    """Return the error for a pickle that asks for more than the limits allow; likewise."""
    return InvalidRequest(f"pickle: {why}", Code.TOO_LARGE)


def quoted(text: str) -> str:
    """Quote foreign text for a message: bounded, and with control characters escaped."""
    shown = ascii(text[:_SHOWN_CHARS])
    whole = len(text) <= _SHOWN_CHARS and len(shown) <= _SHOWN_CHARS + 2
    return shown if whole else shown[:_SHOWN_CHARS] + "..." + shown[0]


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A token for something that a pickle names as `module.name`; never the thing itself.

    Attributes:
        name: the full name, for messages.
        call: makes the record that calling it stands for; None where it cannot be called.
    """

    name: str
    call: Callable[[tuple[object, ...]], object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Lent:
    """Out-of-band bytes.

    Attributes:
        index: which of the buffers that came beside the pickle.
    """

    index: int


@dataclass(slots=True, eq=False)
class RawDict:
    """A dict to be, as key, value, key, value and so on."""

    pairs: list[object]


@dataclass(slots=True, eq=False)
class RawSet:
    """A set or frozenset to be."""

    members: list[object]
    frozen: bool


@dataclass(slots=True, eq=False)
class RawBytearray:
    """A bytearray to be, or the memory of an array; `data` stands for bytes."""

    data: object


@dataclass(slots=True, eq=False)
class RawLatin1:
    """Bytes to be, written as text: how protocol 2 spells `bytes`."""

    text: str


@dataclass(slots=True, eq=False)
class RawDtype:
    """A numpy dtype to be.

    Attributes:
        code: what `numpy.dtype` was called with, such as `f8`; one of the allowed ones.
        state: what BUILD gave, or None before it.
    """

    code: str
    state: tuple[object, ...] | None = None


@dataclass(slots=True, eq=False)
class ArrayContent:
    """All that makes an array, as it came.

    Attributes:
        data: what should be its memory.
        dtype: what should be a `RawDtype`.
        shape: what should be a tuple of sizes.
        order: `C`, `F`, or `K` with `axes`, if it is sound.
        axes: what should be a permutation of the axes; None where order is not `K`.
    """

    data: object
    dtype: object
    shape: object
    order: object
    axes: object = None


@dataclass(slots=True, eq=False)
class RawArray:
    """A numpy array to be.

    Attributes:
        content: what makes it; None until BUILD brings it.
    """

    content: ArrayContent | None = None


@dataclass(slots=True, eq=False)
class RawScalar:
    """A numpy scalar to be.

    Attributes:
        dtype: what should be a `RawDtype`.
        data: what should be its bytes.
    """

    dtype: object
    data: object


def describe(raw: object) -> str:
    """Return how a message shall name a thing that a pickle holds; never its content."""
    match raw:
        case Global():
            return f"global {quoted(raw.name)}"
        case RawDtype():
            return f"numpy.dtype({quoted(raw.code)})"
        case RawArray():
            return "an array"
        case RawScalar():
            return "a numpy scalar"
        case RawDict():
            return "a dict"
        case RawSet():
            return "a frozenset" if raw.frozen else "a set"
        case RawBytearray():
            return "a bytearray"
        case RawLatin1() | memoryview() | Lent():
            return "bytes"
        case None:
            return "None"
        case _:
            return f"a value of type {type(raw).__name__}"
