"""Writes the golden pickles beside it: the same values by the numpy that runs it.

    python make_pickles.py

Run it under each numpy whose clients must be understood. It needs numpy and nothing else, and
keeps to what Python 3.9 and numpy 1.21 can read. Frames are put together here from the layout in
`docs/wire.md`, on purpose not by the code that takes them apart.
"""

import pickle
import struct
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def plain_values():
    """Name -> plain Python value."""
    shared = [1, "shared"]
    return {
        "none": None,
        "bools": [True, False],
        "ints": [0, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 2**63, -(2**200)],
        "floats": [0.0, -0.0, 1.5, float("inf"), float("-inf"), 5e-324],
        "texts": ["", "a", "x" * 300, "Gelenk \u00e4\u4e2d\U0001f916\n"],
        "bytes": [b"", b"\x00\xff", bytes(range(256)) * 2],
        "bytearrays": [bytearray(), bytearray(b"\x00\xff" * 200)],
        "lists": [[], [1], [1, 2], [[["deep"]]], list(range(1200))],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((((),),),)],
        "dicts": [{}, {"a": 1}, {"a": 1, b"b": 2, 3: "c", 4.5: "d", None: "e", True: "f"}],
        "sets": [set(), {1, "a", b"b", None}, frozenset(), frozenset({1.5, "z"})],
        "complex": 1.5 - 2.5j,
        "shared": [shared, shared, {"again": shared}],
    }


def arrays():
    """Name -> numpy array, one for each way in which picklers treat them."""
    grid = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    return {
        "c_order": grid,
        "f_order": np.asfortranarray(grid[0]),
        "transposed": grid.transpose(0, 2, 1),
        "transposed_1d_axes": grid[0].T,
        "strided": grid[:, ::2, ::3],
        "reversed": grid[0, :, ::-1],
        "broadcast": np.broadcast_to(grid[0, 0], (3, 4)),
        "zero_d": np.array(5.5),
        "empty": np.zeros(0, "<i4"),
        "empty_2d": np.zeros((0, 3), "<f8"),
        "big_endian_f4": grid.astype(">f4"),
        "big_endian_i2": np.arange(5).astype(">i2"),
        "text": np.array(["a", "bcd", "\u4e2d"]),
        "big_endian_text": np.array(["a", "bcd"]).astype(">U3"),
        "byte_text": np.array([b"a", b"bcd"]),
        "dates": np.array(["2020-01-01", "NaT"], "M8[D]"),
        "times": np.array([1, 2, 3], "M8[25us]"),
        "big_endian_times": np.array([1, 2], ">M8[s]"),
        "durations": np.array([[1, -2]], "m8[ns]"),
        "bool": np.array([[True, False]]),
        "image": (np.arange(60) * 7 % 256).astype("u1").reshape(4, 5, 3),
        "read_only": _read_only(np.arange(4, dtype="<i8")),
        "state": [np.arange(3, dtype=t) for t in ("i1", "u2", "u4", "u8", "f2", "f8", "c8", "c16")],
    }


def scalars():
    """Name -> numpy scalar."""
    return {
        "float32": np.float32(1.25),
        "float64": np.float64(-2.5),
        "float16": np.float16(0.5),
        "bool": np.bool_(True),
        "int8": np.int8(-3),
        "uint64": np.uint64(2**64 - 1),
        "complex64": np.complex64(1 + 2j),
        "text": np.str_("ab\u00e4"),
        "empty_text": np.str_(""),
        "bytes": np.bytes_(b"ab"),
        "empty_bytes": np.bytes_(b""),
        "date": np.datetime64("2020-02-03"),
        "duration": np.timedelta64(7, "ms"),
    }


def everything():
    """All of them, as one value; an array is in it twice."""
    made = arrays()
    return {
        "plain": plain_values(),
        "arrays": made,
        "scalars": scalars(),
        "twice": [made["image"], made["image"]],
    }


def frame(pickled, buffers):
    """Put a pickle and its out-of-band buffers into one body."""
    views = [buffer.raw() for buffer in buffers]
    body = bytearray(struct.pack("<8sHHIQ", b"PELTON5B", 1, 0, len(views), len(pickled)))
    for view in views:
        body += struct.pack("<Q", view.nbytes)
    body += pickled
    for view in views:
        while len(body) % 64:
            body.append(0)
        body += view
    return bytes(body)


def _read_only(array):
    array.flags.writeable = False
    return array


def main():
    """Write protocols 2 to 5, and 5 with its buffers outside."""
    value = everything()
    stem = f"numpy-{np.__version__}"
    for protocol in (2, 3, 4, 5):
        body = pickle.dumps(value, protocol)
        (HERE / f"{stem}-p{protocol}.pickle").write_bytes(body)
    buffers = []
    body = pickle.dumps(value, 5, buffer_callback=buffers.append)
    (HERE / f"{stem}-p5.frame").write_bytes(frame(body, buffers))


if __name__ == "__main__":
    main()
