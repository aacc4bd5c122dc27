"""Files of arrays, sound ones and such as lie about what they hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def npy(
    header: str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
    data: bytes = bytes(8),
    version: int = 1,
    length: int | None = None,
) -> bytes:
    """Return a `.npy` with any header.

    Args:
        header: the Python literal.
        data: what follows it.
        version: of the format.
        length: the length of the header that it states; None for the true one.
    """
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + size.to_bytes(2 if version == 1 else 4, "little")
        + header.encode()
        + data
    )


def header(descr: str = "'<f4'", shape: str = "(2,)", order: str = "False") -> str:
    """Return a header of a `.npy` with any of its three values as Python code."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def zipped(members: Mapping[str, bytes], packed: bool = True) -> bytes:
    """Return an archive, as `.npz` files are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def saved(path: Path, **arrays: np.ndarray) -> Path:
    """Write arrays as numpy itself does."""
    np.savez(path, **arrays)
    return path
