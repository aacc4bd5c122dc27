"""Plain values and numpy arrays to a pickle that the standard library reads.

The writer knows a fixed list of types and writes nothing else: no object's own idea of how it
should be pickled is ever asked. Large arrays are not copied: their memory becomes a chunk of its
own, in the pickle or outside of it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from pelton.messages import Value
from pelton.tensors import Array
from pelton.wire.pickle_frame import MAX_BUFFERS
from pelton.wire.pickle_opcodes import Op

MAX_DEPTH = 64
"""How deep containers may be nested; a value that holds itself ends here too."""

_OWN_CHUNK_BYTES = 16 * 1024
"""Memory of an array from this size on is a chunk of its own; below it, a copy is cheaper."""

_MAX_INT_BYTES = 255
_MAX_KEY_BITS = 63
_MAX_U32 = 2**32 - 1
_ELEMENTS = frozenset("biufcSUmM")
_MAX_ELEMENT_BYTES = {"f": 8, "c": 16}

_SHORT_TEXT = [bytes((Op.SHORT_BINUNICODE, length)) for length in range(256)]

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_I32 = struct.Struct("<i")
_F64_BIG = struct.Struct(">d")


class Writer:
    """Writes one pickle.

    Attributes:
        buffers: the memory of arrays that was left out of the pickle, in order.
    """

    def __init__(self, protocol: int, old_numpy: bool, lend_buffers: bool) -> None:
        """Begin a pickle.

        Args:
            protocol: 2 to 5.
            old_numpy: whether numpy's private modules are spelled as numpy 1.x does.
            lend_buffers: whether the memory of arrays stays outside (protocol 5 only).
        """
        self.buffers: list[memoryview] = []
        self._protocol = protocol
        self._old_numpy = old_numpy
        self._numpy = "numpy.core." if old_numpy else "numpy._core."
        self._lend_buffers = lend_buffers
        # The older way of writing an array is the only one that every numpy reads in silence.
        self._from_buffers = protocol >= 5 and (lend_buffers or not old_numpy)
        self._chunks: list[bytes | memoryview] = []
        self._tail = bytearray((Op.PROTO, protocol))

    def finish(self) -> list[bytes | memoryview]:
        """End the pickle and return its chunks, to be written one after the other."""
        self._tail.append(Op.STOP)
        self._end_chunk()
        return self._chunks

    def value(self, value: Value, depth: int = 0) -> None:
        """Write one value.

        Args:
            value: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set,
                frozenset or dict of such, a numpy array or a numpy scalar. An array of Python
                objects, as tensors of text are, becomes nested lists.
            depth: how many containers lie around it.

        Raises:
            TypeError: the value's type, or its size, cannot be written.
        """
        write = _WRITE.get(type(value))
        if write is None:
            if not isinstance(value, np.generic):
                raise TypeError(f"a value of type {_type_name(value)} cannot be sent")
            write = Writer._scalar
        if depth > MAX_DEPTH:
            raise TypeError(
                f"a value nested more than {MAX_DEPTH} deep, or in itself, cannot be sent"
            )
        write(self, value, depth)

    def _end_chunk(self) -> None:
        if self._tail:
            self._chunks.append(bytes(self._tail))
            self._tail.clear()

    def _op(self, op: Op, argument: bytes = b"") -> None:
        self._tail.append(op)
        self._tail += argument

    def _constant(self, value: bool | None, depth: int) -> None:
        self._op({None: Op.NONE, True: Op.NEWTRUE, False: Op.NEWFALSE}[value])

    def _int(self, value: int, depth: int) -> None:
        if 0 <= value <= 0xFF:
            self._op(Op.BININT1, bytes((value,)))
        elif -(2**31) <= value < 2**31:
            self._op(Op.BININT, _I32.pack(value))
        else:
            length = value.bit_length() // 8 + 1
            if length > _MAX_INT_BYTES:
                raise TypeError(f"an integer of more than {_MAX_INT_BYTES} bytes cannot be sent")
            self._op(Op.LONG1, bytes((length,)) + value.to_bytes(length, "little", signed=True))

    def _float(self, value: float, depth: int) -> None:
        self._op(Op.BINFLOAT, _F64_BIG.pack(value))

    def _complex(self, value: complex, depth: int) -> None:
        self._global("builtins", "complex")
        self._float(value.real, depth)
        self._float(value.imag, depth)
        self._op(Op.TUPLE2)
        self._op(Op.REDUCE)

    def _text(self, value: str, depth: int = 0) -> None:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise TypeError("text with a lone surrogate cannot be sent") from None
        if len(data) <= 0xFF and self._protocol >= 4:
            self._tail += _SHORT_TEXT[len(data)]
            self._tail += data
        elif len(data) <= _MAX_U32:
            self._op(Op.BINUNICODE, _U32.pack(len(data)))
            self._memory(memoryview(data))
        else:
            raise TypeError("text of 4 GiB or more cannot be sent")

    def _bytes(self, value: bytes | bytearray | memoryview, depth: int = 0) -> None:
        length = len(value)
        if self._protocol == 2:
            self._global("_codecs", "encode")
            self._text(str(value, "latin1"))
            self._text("latin1")
            self._op(Op.TUPLE2)
            self._op(Op.REDUCE)
            return
        if length <= 0xFF:
            self._op(Op.SHORT_BINBYTES, bytes((length,)))
        elif length <= _MAX_U32:
            self._op(Op.BINBYTES, _U32.pack(length))
        elif self._protocol >= 4:
            self._op(Op.BINBYTES8, _U64.pack(length))
        else:
            raise TypeError("4 GiB or more in one piece need protocol 4")
        self._memory(memoryview(value))

    def _bytearray(self, value: bytearray, depth: int) -> None:
        if self._protocol >= 5:
            self._op(Op.BYTEARRAY8, _U64.pack(len(value)))
            self._memory(memoryview(value))
        else:
            self._global("builtins", "bytearray")
            self._bytes(value)
            self._op(Op.TUPLE1)
            self._op(Op.REDUCE)

    def _memory(self, data: memoryview) -> None:
        if len(data) < _OWN_CHUNK_BYTES:
            self._tail += data
        else:
            self._end_chunk()
            self._chunks.append(data)

    def _list(self, value: list[Value], depth: int) -> None:
        self._op(Op.EMPTY_LIST)
        self._op(Op.MARK)
        for item in value:
            self.value(item, depth + 1)
        self._op(Op.APPENDS)

    def _tuple(self, value: tuple[Value, ...], depth: int) -> None:
        self._op(Op.MARK)
        for item in value:
            self.value(item, depth + 1)
        self._op(Op.TUPLE)

    def _set(self, value: set[Value] | frozenset[Value], depth: int) -> None:
        self._global("builtins", type(value).__name__)
        self._list([_plain_key(member) for member in value], depth)
        self._op(Op.TUPLE1)
        self._op(Op.REDUCE)

    def _dict(self, value: dict[Value, Value], depth: int) -> None:
        self._op(Op.EMPTY_DICT)
        self._op(Op.MARK)
        for key, item in value.items():
            if type(key) is str:
                self._text(key)
            else:
                self.value(_plain_key(key), depth + 1)
            self.value(item, depth + 1)
        self._op(Op.SETITEMS)

    def _global(self, module: str, name: str) -> None:
        self._op(Op.GLOBAL, f"{module}\n{name}\n".encode())

    def _dtype(self, dtype: np.dtype[Any]) -> None:
        _check_metadata(dtype)
        self._tail += _dtype_ops(dtype, self._protocol)

    def _dtype_in_full(self, dtype: np.dtype[Any]) -> bytes:
        """Write a dtype in numpy's own words, for which it is asked."""
        largest = _MAX_ELEMENT_BYTES.get(dtype.kind, dtype.itemsize)
        if dtype.kind not in _ELEMENTS or dtype.itemsize > largest:
            raise _no_dtype(dtype)
        _, args, state = cast("tuple[Any, Any, Any]", dtype.__reduce__())
        self._tail.clear()
        self._global("numpy", "dtype")
        self._tuple(args, 0)
        self._op(Op.REDUCE)
        self._tuple(state, 0)
        self._op(Op.BUILD)
        return bytes(self._tail)

    def _scalar(self, value: np.generic, depth: int) -> None:
        self._global(self._numpy + "multiarray", "scalar")
        self._dtype(value.dtype)
        # numpy gives empty text the bytes of one character.
        self._bytes(value.tobytes()[: value.dtype.itemsize])
        self._op(Op.TUPLE2)
        self._op(Op.REDUCE)

    def _array(self, array: Array, depth: int) -> None:
        if array.dtype.kind == "O":
            self.value(array.tolist(), depth)
            return
        order, data = contiguous(array)
        if self._from_buffers and array.dtype.itemsize:
            _check_metadata(array.dtype)
            before, after = _array_ops(array.dtype, array.shape, order, self._old_numpy)
            self._tail += before
            self._array_memory(data)
            self._tail += after
            return
        self._global(self._numpy + "multiarray", "_reconstruct")
        self._global("numpy", "ndarray")
        self._tuple((0,), 0)
        self._bytes(b"b")
        self._op(Op.TUPLE3)
        self._op(Op.REDUCE)
        self._op(Op.MARK)
        self._int(1, 0)
        self._tuple(array.shape, 0)
        self._dtype(array.dtype)
        self._constant(order == "F", 0)
        self._bytes(data)
        self._op(Op.TUPLE)
        self._op(Op.BUILD)

    def _around_memory(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
    ) -> tuple[bytes, bytes]:
        """Write what stands before and after the memory of an array."""
        self._tail.clear()
        self._global(self._numpy + "numeric", "_frombuffer")
        self._op(Op.MARK)
        before = bytes(self._tail)
        self._tail.clear()
        self._dtype(dtype)
        self._tuple(shape, 0)
        self._text(order)
        self._op(Op.TUPLE)
        self._op(Op.REDUCE)
        return before, bytes(self._tail)

    def _array_memory(self, data: memoryview) -> None:
        if self._lend_buffers and len(self.buffers) < MAX_BUFFERS:
            self.buffers.append(data)
            self._op(Op.NEXT_BUFFER)
        else:
            self._op(Op.BYTEARRAY8, _U64.pack(len(data)))
            self._memory(data)


@functools.lru_cache(maxsize=256)
def _dtype_ops(dtype: np.dtype[Any], protocol: int) -> bytes:
    """Return the opcodes of a dtype, which are many and always the same."""
    return Writer(protocol, old_numpy=False, lend_buffers=False)._dtype_in_full(dtype)


@functools.lru_cache(maxsize=256)
def _array_ops(
    dtype: np.dtype[Any], shape: tuple[int, ...], order: str, old_numpy: bool
) -> tuple[bytes, bytes]:
    """Return the opcodes around an array's memory: the same ones for each picture of a camera."""
    writer = Writer(protocol=5, old_numpy=old_numpy, lend_buffers=True)
    return writer._around_memory(dtype, shape, order)


def _check_metadata(dtype: np.dtype[Any]) -> None:
    """Refuse metadata, which does not count when dtypes are compared, as the memos do."""
    if dtype.metadata:
        raise _no_dtype(dtype)


def _no_dtype(dtype: np.dtype[Any]) -> TypeError:
    return TypeError(f"an array or scalar of {dtype!s:.80} cannot be sent")


def contiguous(array: Array) -> tuple[str, memoryview]:
    """Return an array's order, C or F, and its memory in that order, copied only where it must."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    if not array.nbytes:
        return order, memoryview(b"")
    flat = array.ravel(order="F" if order == "F" else "C")
    return order, flat.view(np.uint8).data


def _plain_key(key: Value) -> Value:
    """Return a dict's key or a set's member as a plain value of the kinds that a decoder takes."""
    if isinstance(key, np.generic):
        key = key.item()
    if type(key) in _KEYS and not (type(key) is int and key.bit_length() > _MAX_KEY_BITS):
        return key
    raise TypeError(f"a key of type {_type_name(key)} cannot be sent")


def _type_name(value: Value) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")[:80]


_KEYS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})

_WRITE: dict[type, Callable[[Writer, Any, int], None]] = {
    type(None): Writer._constant,
    bool: Writer._constant,
    int: Writer._int,
    float: Writer._float,
    complex: Writer._complex,
    str: Writer._text,
    bytes: Writer._bytes,
    bytearray: Writer._bytearray,
    list: Writer._list,
    tuple: Writer._tuple,
    set: Writer._set,
    frozenset: Writer._set,
    dict: Writer._dict,
    np.ndarray: Writer._array,
}
