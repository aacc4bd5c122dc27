"""Clients of every supported numpy are understood, and understand the answer.

The golden pickles were written by numpy 1.21, 1.26, 2.3 and 2.5 with the script beside them.
"""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import warnings
from pathlib import Path

import numpy as np
import pytest

from golden.pickles.alike import NUMPY_1, assert_alike
from golden.pickles.make_pickles import HERE, everything
from pelton.wire.limits import Limits
from pelton.wire.pickled import PickleStyle, decode, encode

GOLDEN = sorted([*HERE.glob("numpy-*.pickle"), *HERE.glob("numpy-*.frame")])


def style_of(path: Path) -> PickleStyle:
    """Read the style off a golden file's name, such as `numpy-2.5.5-p5.frame`."""
    _, version, protocol = path.stem.split("-")
    return PickleStyle(int(protocol[1:]), version.startswith("1."), path.suffix == ".frame")


def as_read_by_numpy(value: object) -> object:
    """Return arrays and scalars in native byte order, as numpy's older loading makes them."""
    match value:
        case np.ndarray():
            return value.astype(value.dtype.newbyteorder("="))
        case dict():
            return {key: as_read_by_numpy(item) for key, item in value.items()}
        case list():
            return [as_read_by_numpy(item) for item in value]
    return value


def test_every_client_is_there() -> None:
    assert len(GOLDEN) == 4 * 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_c20_compat(path: Path) -> None:
    value, style = decode(path.read_bytes(), Limits())
    assert_alike(value, everything())
    assert style == style_of(path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_memory_order_survives(path: Path) -> None:
    arrays = decode(path.read_bytes(), Limits())[0]["arrays"]
    assert arrays["c_order"].flags.c_contiguous
    assert arrays["f_order"].flags.f_contiguous
    assert not arrays["f_order"].flags.c_contiguous


@pytest.mark.parametrize(
    "style",
    [PickleStyle(p, old, False) for p, old in itertools.product((2, 3, 4, 5), (True, False))],
    ids=repr,
)
def test_the_standard_library_reads_the_answer(style: PickleStyle) -> None:
    if NUMPY_1 and not style.old_numpy:
        pytest.skip("numpy 1.x does not read the spelling of 2.x")
    written = b"".join(encode(everything(), style))
    assert written[:2] == bytes((0x80, style.protocol))
    loaded = pickle.loads(written)
    assert_alike(as_read_by_numpy(loaded), as_read_by_numpy(everything()))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_the_answer_is_in_the_style_of_the_request(path: Path) -> None:
    style = style_of(path)
    value, again = decode(b"".join(encode(everything(), style)), Limits())
    assert_alike(value, everything())
    assert again == style


def test_elements_without_bytes_are_written_as_well() -> None:
    value = [np.ndarray((2,), "S0"), np.zeros((0, 2), "U1")]
    for style in (PickleStyle(5, NUMPY_1, False), PickleStyle(5, True, False)):
        loaded = pickle.loads(b"".join(encode(value, style)))
        assert [array.shape for array in loaded] == [(2,), (0, 2)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_old_spelling_is_read_in_silence_and_the_new_one_is_not_in_it(protocol: int) -> None:
    written = b"".join(encode(everything(), PickleStyle(protocol, True, False)))
    assert b"numpy._core" not in written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(written)


def test_new_numpy_gets_the_new_spelling() -> None:
    written = b"".join(encode(everything(), PickleStyle(5, False, False)))
    assert b"numpy._core.numeric" in written
    assert b"numpy.core" not in written


def test_arrays_that_the_standard_library_reads_can_be_written_to() -> None:
    for style in (PickleStyle(5, True, False), PickleStyle(5, NUMPY_1, False)):
        loaded = pickle.loads(b"".join(encode(np.zeros(5000), style)))
        loaded += 1
        assert loaded.sum() == 5000


def test_a_client_that_names_no_numpy_is_answered_in_words_that_every_numpy_reads() -> None:
    body = pickle.dumps({"instruction": "go", "state": [1.0, 2.0]}, 5)
    value, style = decode(body, Limits())
    assert value == {"instruction": "go", "state": [1.0, 2.0]}
    assert style == PickleStyle(protocol=5, old_numpy=True, out_of_band=False)


def test_the_pickler_that_is_written_in_python_is_read() -> None:
    expected = everything()
    for name in ("empty", "empty_2d"):  # on which that pickler fails
        del expected["arrays"][name]
    written = io.BytesIO()
    pickle._Pickler(written, 5).dump(expected)
    assert_alike(decode(written.getvalue(), Limits())[0], expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_optimised_pickle_is_read(protocol: int) -> None:
    optimised = pickletools.optimize(pickle.dumps(everything(), protocol))
    assert_alike(decode(optimised, Limits())[0], everything())


@pytest.mark.parametrize("size", [65_534, 65_536, 200_000])
@pytest.mark.parametrize("protocol", [4, 5])
def test_pieces_that_the_pickler_puts_between_frames_are_read(size: int, protocol: int) -> None:
    value = {
        "a": b"a" * size,
        "b": "b" * size,
        "c": np.arange(size, dtype=np.uint8),
        "d": [str(i) for i in range(20_000)],
    }
    decoded, _ = decode(pickle.dumps(value, protocol), Limits())
    assert_alike(decoded, value)
