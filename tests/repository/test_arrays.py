"""Files of arrays that a stranger may have written."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pelton.errors import LoadFailed
from pelton.repository import arrays
from pelton.repository.arrays import ONLY, read_arrays
from repository.array_files import header, npy, saved, zipped

ARRAYS = (
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array(3.5),
    np.zeros((0, 3), np.uint8),
    np.array([True, False]),
    np.array(["a", "\u732b"]),
    np.array([b"a", b"bcd"]),
    np.arange(3, dtype=">i4"),
)


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(LoadFailed) as error:
        read_arrays(path, "the file")
    assert error.value.message.startswith("the file ")
    return error.value.message.removeprefix("the file ")


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(
    tmp_path: Path, array: np.ndarray, version: tuple[int, int]
) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    read = read_arrays(tmp_path / "x.npy", "x")
    assert list(read) == [ONLY]
    assert read[ONLY].dtype == array.dtype
    np.testing.assert_array_equal(read[ONLY], array, strict=True)


def test_an_archive_is_read(tmp_path: Path) -> None:
    first, second = ARRAYS[:2]
    for path in (saved(tmp_path / "a.npz", x=first, y=second), tmp_path / "b.npz"):
        if not path.exists():
            np.savez_compressed(path, x=first, y=second)
        read = read_arrays(path, "x")
        assert list(read) == ["x", "y"]
        np.testing.assert_array_equal(read["x"], first, strict=True)
        np.testing.assert_array_equal(read["y"], second, strict=True)


def test_json_is_nested_lists(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"x": [[1, 2.5]], "y": "text"}')
    assert read_arrays(tmp_path / "x.json", "x") == {"x": [[1, 2.5]], "y": "text"}


def pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([os.getcwd], object), allow_pickle=True)
    return out.getvalue()


HUGE = "(8589934592,)"
"""32 GiB of float32."""

HOSTILE = [
    (b"", "something else than arrays in numpy's own format"),
    (b"\x93NUMPY\x01\x00", "something else than arrays"),
    (b"PK\x03\x04" + bytes(100), "something else than arrays"),
    (npy(version=9), "something else than arrays"),
    (npy(header(shape=HUGE), b""), "shape does not fit the bytes"),
    (npy(header(shape="(3,)")), "shape does not fit the bytes"),
    (npy(header(shape="(1,)")), "shape does not fit the bytes"),
    (npy(header(shape="(4294967296, 4294967296)"), b""), "shape does not fit the bytes"),
    (npy(header(shape="(-2, -1)")), "shape does not fit the bytes"),
    (npy(header(shape="(True, 2)")), "shape does not fit the bytes"),
    (npy(header(shape="[2]")), "shape does not fit the bytes"),
    (npy(header(shape="2")), "shape does not fit the bytes"),
    (npy(header(shape=str((1,) * 33)), bytes(4)), "shape does not fit the bytes"),
    (npy(header(shape="(0, 9223372036854775807, 9223372036854775807)"), b""), "impossible shape"),
    (npy(header(descr="'|O'")), "a type that no tensor has"),
    (npy(header(descr="'<M8[s]'"), bytes(16)), "a type that no tensor has"),
    (npy(header(descr="'<c8'"), bytes(16)), "a type that no tensor has"),
    (npy(header(descr="'|V4'")), "a type that no tensor has"),
    (npy(header(descr="'|S0'"), b""), "a type that no tensor has"),
    (npy(header(descr="'<f4,<f4'"), bytes(16)), "a type that no tensor has"),
    (npy(header(descr="'(2,)<f4'"), bytes(16)), "a type that no tensor has"),
    (npy(header(descr="[('a', '<f4')]")), "a type that no tensor has"),
    (npy(header(descr="'nonsense'")), "header makes no sense"),
    (npy(header(descr="__import__('os')")), "header makes no sense"),
    (npy("{}"), "header makes no sense"),
    (npy("[1, 2]"), "header makes no sense"),
    (npy("("), "header makes no sense"),
    (npy("(" * 9000), "header makes no sense"),
    (npy("-" * 9000 + "1"), "header makes no sense"),
    (npy("{[]: 1}"), "header makes no sense"),
    (npy("\x00"), "header makes no sense"),
    (npy(length=60_000), "header that is cut off or too long"),
    (npy(header() + " " * 10_001), "header that is cut off or too long"),
    (npy(version=2, length=2**32 - 1), "header that is cut off or too long"),
    (pickled(), "a type that no tensor has"),
    (pickle.dumps(np.zeros(3)), "something else than arrays"),
]


@pytest.mark.parametrize(("data", "said"), HOSTILE)
def test_an_array_that_lies_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    tracemalloc.start()
    assert said in refusal(tmp_path / "x.npy", data)
    assert said in refusal(tmp_path / "x.npz", zipped({"x.npy": data}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    good = zipped({"x.npy": npy()}, packed=False)
    assert refusal(path, b"PK") == "is no sound .npz file"
    assert refusal(path, good[:-30]) == "is no sound .npz file"
    assert refusal(path, good.replace(bytes(8), b"\1" * 8)) == "is no sound .npz file"
    assert refusal(path, zipped({"readme.txt": b""})) == "holds something else than arrays"
    twice = zipped({"x.npy": npy(), "y.npy": npy()}).replace(b"y.npy", b"x.npy")
    assert "each with a name of its own" in refusal(path, twice)
    many = zipped({f"{index}.npy": npy() for index in range(257)})
    assert "at most 256 arrays" in refusal(path, many)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MAX_ARRAYS_BYTES", 100_000)
    bomb = npy(header(shape="(60_000,)", descr="'|u1'"), bytes(60_000))
    assert len(read_one(tmp_path / "x.npz", zipped({"a.npy": bomb}))) == 60_000
    packed = zipped({"a.npy": bomb, "b.npy": bomb})
    assert len(packed) < 2000
    assert refusal(tmp_path / "x.npz", packed) == "unpacks to more than 100000 bytes"


def read_one(path: Path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    (array,) = read_arrays(path, "x").values()
    return array


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_ARRAYS_BYTES", 1000)
    monkeypatch.setattr(arrays, "MAX_JSON_BYTES", 100)
    for name, limit in (("x.npy", 1000), ("x.npz", 1000), ("x.json", 100)):
        said = refusal(tmp_path / name, bytes(limit + 1))
        assert said == f"is larger than {limit} bytes"


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    (tmp_path / "y.npy").mkdir()
    with pytest.raises(LoadFailed, match="the file is no plain file"):
        read_arrays(tmp_path / "x.npy", "the file")
    with pytest.raises(LoadFailed, match="the file cannot be read: Is a directory"):
        read_arrays(tmp_path / "y.npy", "the file")


@pytest.mark.parametrize("text", ["", "[1]", "nonsense", "[" * 100_000, "\xff", '{"a": 1} x'])
def test_json_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path / "x.json", text.encode("latin-1"))
    assert said in ("is no valid JSON", "must hold an object with the nested lists of each tensor")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([npy(), zipped({"x.npy": npy(), "y.npy": npy()})])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / ("x.npz" if whole[:1] == b"P" else "x.npy")
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read = read_arrays(path, "x")
    except LoadFailed:
        return
    assert sum(array.nbytes for array in read.values()) <= 16
