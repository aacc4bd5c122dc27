"""The frame around a pickle and its out-of-band buffers, byte by byte."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from golden.pickles.alike import NUMPY_1
from golden.pickles.make_pickles import HERE
from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickle_frame import MAX_BUFFERS
from pelton.wire.pickled import PickleStyle, decode, encode

FRAMED = PickleStyle(protocol=5, old_numpy=False, out_of_band=True)

BUFFER_STREAM = b"\x80\x05](\x97\x97e."
"""A list of two out-of-band buffers."""


def frame(stream: bytes, *buffers: bytes, version: int = 1, flags: int = 0, gap: int = 0) -> bytes:
    """Put a frame together from the layout in `docs/wire.md`."""
    body = struct.pack("<8sHHIQ", b"PELTON5B", version, flags, len(buffers), len(stream))
    body += struct.pack(f"<{len(buffers)}Q", *map(len, buffers)) + stream
    for buffer in buffers:
        body += bytes([gap]) * (-len(body) % 64) + buffer
    return body


def refusal(body: bytes) -> str:
    with pytest.raises(InvalidRequest, match=r"\Apickle: ") as caught:
        decode(body, Limits())
    return caught.value.message


def test_golden_bytes() -> None:
    value = {"state": np.arange(3, dtype="<f4"), "image": np.arange(130, dtype="u1")}
    golden = (HERE / "frame-v1.bin").read_bytes()
    assert b"".join(encode(value, FRAMED)) == golden
    decoded, style = decode(golden, Limits())
    assert style == FRAMED
    assert decoded["state"].tolist() == [0.0, 1.0, 2.0]
    assert decoded["image"].tolist() == list(range(130))


def test_golden_layout() -> None:
    golden = (HERE / "frame-v1.bin").read_bytes()
    assert golden[:8] == b"PELTON5B"
    assert golden[8:16] == b"\x01\x00\x00\x00\x02\x00\x00\x00"
    length, first, second = struct.unpack_from("<QQQ", golden, 16)
    assert (first, second) == (12, 130)
    assert golden[40:42] == b"\x80\x05"
    assert golden[40 + length - 1 : 40 + length] == b"."
    start = -(-(40 + length) // 64) * 64
    assert golden[start : start + 12] == struct.pack("<3f", 0, 1, 2)
    assert golden[start + 12 : start + 64] == bytes(52)
    assert golden[start + 64 :] == bytes(range(130))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_no_pickle_begins_as_a_frame_does(protocol: int) -> None:
    assert pickle.dumps(None, protocol)[0] == 0x80 != b"PELTON5B"[0]


def test_buffers_come_back_as_they_were_lent() -> None:
    assert decode(frame(BUFFER_STREAM, b"abc", b""), Limits())[0] == [
        bytearray(b"abc"),
        bytearray(),
    ]
    assert decode(frame(b"\x80\x05\x97\x98.", b"abc"), Limits())[0] == b"abc"
    assert decode(frame(b"\x80\x05N."), Limits())[0] is None


def test_what_the_standard_library_lends_is_read() -> None:
    value = [bytearray(b"a" * 70), pickle.PickleBuffer(b"b" * 70), np.arange(4)]
    lent: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(
        [pickle.PickleBuffer(value[0]), *value[1:]], 5, buffer_callback=lent.append
    )
    decoded, _ = decode(frame(stream, *(buffer.raw().tobytes() for buffer in lent)), Limits())
    assert decoded[0] == value[0]
    assert decoded[1] == b"b" * 70
    assert decoded[2].tolist() == [0, 1, 2, 3]


def test_the_standard_library_reads_what_is_lent() -> None:
    value = [np.arange(6.0).reshape(2, 3).T, np.array(["2020-01-01"], "M8[D]"), np.zeros((0, 2))]
    body = b"".join(encode(value, PickleStyle(5, NUMPY_1, out_of_band=True)))
    count, length = struct.unpack_from("<IQ", body, 12)
    lengths = struct.unpack_from(f"<{count}Q", body, 24)
    end = 24 + 8 * count + length
    buffers = []
    for size in lengths:
        start = -(-end // 64) * 64
        end = start + size
        buffers.append(body[start:end])
    assert end == len(body)
    loaded = pickle.loads(body[24 + 8 * count :][:length], buffers=buffers)
    for ours, theirs in zip(value, loaded, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_arrays_beyond_the_largest_number_of_buffers_are_inside() -> None:
    value = [np.full(3, i, "i4") for i in range(MAX_BUFFERS + 2)]
    body = b"".join(encode(value, FRAMED))
    assert struct.unpack_from("<I", body, 12) == (MAX_BUFFERS,)
    decoded, _ = decode(body, Limits())
    assert [array[0] for array in decoded] == list(range(MAX_BUFFERS + 2))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"PELTON5B", "ends within its head"),
        (frame(BUFFER_STREAM, b"a", b"b")[:39], "ends within its head"),
        (frame(b"\x80\x05N.", version=2), "frame version 2 is unknown"),
        (frame(b"\x80\x05N.", flags=1), "frame flags 0x0001 are unknown"),
        (frame(b"\x80\x05N.", *[b""] * 1025), "a frame of 1025 buffers; at most 1024"),
        (frame(BUFFER_STREAM, b"a", b"b") + b"\x00", "1 bytes follow the frame"),
        (frame(BUFFER_STREAM, b"a", b"b")[:-1], "a part of 1 bytes where 0 are left"),
        (
            frame(BUFFER_STREAM, b"a", b"b", gap=1),
            "a gap in the frame is cut off or is not of zeros",
        ),
        (frame(BUFFER_STREAM, b"a", b"b")[:60], "a gap in the frame is cut off"),
        (frame(BUFFER_STREAM, b"a"), "NEXT_BUFFER where every out-of-band buffer has been used"),
        (frame(BUFFER_STREAM, b"a", b"b", b"c"), "1 out-of-band buffers are not used"),
        (frame(b"\x80\x04N."), "a frame holds a pickle of protocol 5, not 4"),
        (frame(frame(b"\x80\x05N.")), "does not begin as a pickle"),
        (frame(b""), "does not begin as a pickle"),
        (BUFFER_STREAM, "NEXT_BUFFER where every out-of-band buffer has been used"),
        (b"\x80\x05C\x01a\x98.", "opcode READONLY_BUFFER on bytes"),
        (struct.pack("<8sHHIQ", b"PELTON5B", 1, 0, 0, 2**64 - 1), "a part of 18446744073709551615"),
        (struct.pack("<8sHHIQ", b"PELTON5B", 1, 0, 2**32 - 1, 0), "a frame of 4294967295 buffers"),
        (
            struct.pack("<8sHHIQ4s", b"PELTON5B", 1, 0, 1, 4, b"").ljust(32, b"\xff")
            + b"\x80\x05N.",
            "a gap in the frame is cut off",
        ),
    ],
)
def test_frames_that_lie(body: bytes, told: str) -> None:
    assert told in refusal(body)


def test_a_frame_that_is_cut_anywhere_is_refused() -> None:
    whole = b"".join(encode([np.arange(3.0), np.arange(9, dtype="u1")], FRAMED))
    for length in range(len(whole)):
        assert refusal(whole[:length])
