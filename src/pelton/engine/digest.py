"""A digest of outputs, by which two answers can be told to be the same to the last bit."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from pelton.messages import Value


def digest_of(outputs: Mapping[str, Value]) -> str:
    r"""Return the SHA-256 (FIPS 180-4) of named outputs.

    What is hashed is a sequence of fields, each a tag of one byte, the length of what follows as
    eight bytes, little-endian, and that many bytes; so no two different values give one sequence.
    For each output, in order, there are its name and its value:

    * text: `s` and UTF-8; bytes: `b` and themselves; None: `n` and nothing;
    * true and false: `t` and one byte; integers: `i` and their decimal digits; floats: `f` and
      eight bytes, IEEE 754, little-endian;
    * an array: `a` and the dtype as numpy writes it (`<f4`), `d` and each size of the shape as
      eight bytes, little-endian, then `e` and the elements in C order, or, for an array of
      objects, each element as a value;
    * a list or tuple: `l` and how many follow, as eight bytes, then each;
    * a mapping: `m` and how many follow, as eight bytes, then each key and value, in order.

    Args:
        outputs: output name -> array, or any plain value.

    Returns:
        `sha256:` and 64 hexadecimal digits.

    Raises:
        TypeError: a value of a kind that no answer can hold.
    """
    hashing = hashlib.sha256()
    for name, value in outputs.items():
        _add(hashing, name)
        _add(hashing, value)
    return f"sha256:{hashing.hexdigest()}"


def _add(hashing: Any, value: Value) -> None:
    if isinstance(value, np.ndarray | np.generic):
        _add_array(hashing, np.asarray(value))
    elif isinstance(value, str):
        _field(hashing, b"s", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes | bytearray | memoryview):
        _field(hashing, b"b", bytes(value))
    elif value is None:
        _field(hashing, b"n", b"")
    elif isinstance(value, bool):
        _field(hashing, b"t", bytes([value]))
    elif isinstance(value, int):
        _field(hashing, b"i", f"{value:d}".encode())
    elif isinstance(value, float):
        _field(hashing, b"f", struct.pack("<d", value))
    elif isinstance(value, list | tuple):
        _field(hashing, b"l", struct.pack("<Q", len(value)))
        for each in value:
            _add(hashing, each)
    elif isinstance(value, Mapping):
        _field(hashing, b"m", struct.pack("<Q", len(value)))
        for key, each in value.items():
            _add(hashing, key)
            _add(hashing, each)
    else:
        raise TypeError(f"a {type(value).__name__} has no digest")


def _add_array(hashing: Any, array: np.ndarray[Any, Any]) -> None:
    _field(hashing, b"a", array.dtype.str.encode("ascii"))
    _field(hashing, b"d", struct.pack(f"<{array.ndim}Q", *array.shape))
    if array.dtype.hasobject:
        for each in array.flat:
            _add(hashing, each)
    else:
        _field(hashing, b"e", np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _field(hashing: Any, tag: bytes, content: bytes | np.ndarray[Any, Any]) -> None:
    size = content.nbytes if isinstance(content, np.ndarray) else len(content)
    hashing.update(tag + struct.pack("<Q", size))
    hashing.update(content)
