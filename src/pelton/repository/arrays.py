"""Files of arrays as a model's author hands them over: `.npz`, `.npy`, `.json`.

Such a file may come from a stranger. So none is unpickled, and nothing is allocated because a
header says so: what an array claims to be must be what lies behind its header.
"""

from __future__ import annotations

import ast
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pelton.errors import LoadFailed
from pelton.repository.own_files import read_bytes
from pelton.tensors import MAX_RANK, Array

SUFFIXES = (".npz", ".npy", ".json")
"""Endings of the files that can be read."""

MAX_ARRAYS_BYTES = 64 << 20
"""Most bytes of one file, and of all arrays in it."""

MAX_JSON_BYTES = 8 << 20
"""Most bytes of a `.json`, whose numbers take many times as much in memory."""

MAX_ARRAYS = 256
"""Most arrays in one `.npz`."""

MAX_HEADER_BYTES = 10_000
"""Longest header of a `.npy`; numpy's own bound."""

ONLY = ""
"""Name under which the one array of a `.npy` is returned."""

_KINDS = "biufSU"
"""The kinds of dtype that a tensor may have: numbers, truth values and texts."""


def read_arrays(path: Path, told: str) -> Mapping[str, Any]:
    """Return what a file of arrays holds.

    Args:
        path: the file; its ending tells the format.
        told: how messages shall name it.

    Returns:
        Name -> array, or nested lists from a `.json`; the array of a `.npy` is called `ONLY`.

    Raises:
        LoadFailed: the file is broken, too large, or holds something else.
    """
    if path.suffix == ".json":
        return _json(read_bytes(path, MAX_JSON_BYTES, told), told)
    data = read_bytes(path, MAX_ARRAYS_BYTES, told)
    if path.suffix == ".npz":
        return _npz(data, told)
    return {ONLY: _npy(data, told)}


def _json(data: bytes, told: str) -> Mapping[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise LoadFailed(f"{told} is no valid JSON") from None
    if not isinstance(values, dict):
        raise LoadFailed(f"{told} must hold an object with the nested lists of each tensor")
    return values


def _npz(data: bytes, told: str) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, told)
            return {
                member.filename.removesuffix(".npy"): _npy(archive.read(member), told)
                for member in members
            }
    # Besides its own, zipfile raises these for members that are damaged, encrypted or packed
    # in a way that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise LoadFailed(f"{told} is no sound .npz file") from error


def _check_members(members: list[zipfile.ZipInfo], told: str) -> None:
    names = {member.filename for member in members}
    if len(members) > MAX_ARRAYS or len(names) < len(members):
        raise LoadFailed(
            f"{told} must hold at most {MAX_ARRAYS} arrays, each with a name of its own"
        )
    if not all(name.endswith(".npy") for name in names):
        raise LoadFailed(f"{told} holds something else than arrays")
    # zipfile reads no more of a member than its entry says.
    if sum(member.file_size for member in members) > MAX_ARRAYS_BYTES:
        raise LoadFailed(f"{told} unpacks to more than {MAX_ARRAYS_BYTES} bytes")


def _npy(data: bytes, told: str) -> Array:
    header, start = _header(data, told)
    try:
        dtype = np.dtype(header["descr"]) if isinstance(header["descr"], str) else None
        shape, in_columns = header["shape"], header["fortran_order"]
    except (KeyError, TypeError, ValueError, SyntaxError):
        raise LoadFailed(f"{told} holds an array whose header makes no sense") from None
    if dtype is None or dtype.kind not in _KINDS or not dtype.itemsize:
        raise LoadFailed(f"{told} holds an array of a type that no tensor has")
    sizes_are_sound = (
        type(shape) is tuple
        and len(shape) <= MAX_RANK
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    )
    if not sizes_are_sound or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise LoadFailed(f"{told} holds an array whose shape does not fit the bytes that are there")
    try:
        flat = np.frombuffer(data, dtype, offset=start)
        return flat.reshape(shape, order="F" if in_columns else "C")
    except ValueError:  # an empty array may have other sizes too large for numpy
        raise LoadFailed(f"{told} holds an array of an impossible shape") from None


def _header(data: bytes, told: str) -> tuple[dict[str, Any], int]:
    """Return the header of a `.npy`, and where its data begin.

    The layout is that of NEP 1: magic, two bytes of version, the header's length in two bytes
    (version 1) or four, and a Python literal.
    """
    length_bytes = {1: 2, 2: 4, 3: 4}.get(data[6]) if len(data) >= 12 else None
    if data[:6] != b"\x93NUMPY" or length_bytes is None:
        raise LoadFailed(f"{told} holds something else than arrays in numpy's own format")
    begin = 8 + length_bytes
    end = begin + int.from_bytes(data[8:begin], "little")
    if end > min(len(data), begin + MAX_HEADER_BYTES):
        raise LoadFailed(f"{told} holds an array with a header that is cut off or too long")
    try:
        header = ast.literal_eval(data[begin:end].decode("utf-8"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        header = None
    if not isinstance(header, dict):
        raise LoadFailed(f"{told} holds an array whose header makes no sense")
    return header, end
