from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from pelton.errors import Code, InvalidRequest
from pelton.wire.inflate import deflate, inflate

BODY = b"tensor " * 100
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress}
DECOMPRESS = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def refusal(body: bytes, encoding: str, max_bytes: int = 10_000) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        inflate(body, encoding, max_bytes)
    return caught.value


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("body", [BODY, b"", b"x"])
def test_reads_what_the_standard_library_writes(encoding: str, body: bytes) -> None:
    assert inflate(memoryview(COMPRESS[encoding](body)), encoding, len(body)) == body


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_standard_library_reads_what_is_written(encoding: str) -> None:
    packed = deflate([BODY[:10], memoryview(BODY)[10:]], encoding)
    assert len(packed) < len(BODY)
    assert DECOMPRESS[encoding](packed) == BODY
    assert deflate([BODY[:300], BODY[300:]], encoding) == packed


@pytest.mark.parametrize("encoding", COMPRESS)
def test_names_are_read_without_regard_to_case_and_space(encoding: str) -> None:
    packed = COMPRESS[encoding](BODY)
    assert inflate(packed, f" {encoding.upper()} ", 10_000) == BODY


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_is_on_what_comes_out(encoding: str) -> None:
    packed = COMPRESS[encoding](BODY)
    assert inflate(packed, encoding, len(BODY)) == BODY
    assert refusal(packed, encoding, len(BODY) - 1).code is Code.TOO_LARGE


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_is_not_blown_up(encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(64 * 2**20))
    tracemalloc.start()
    try:
        assert refusal(bomb, encoding, 2**20).code is Code.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("cut", [1, 5, 20])
def test_cut_short(encoding: str, cut: int) -> None:
    error = refusal(COMPRESS[encoding](BODY)[:-cut], encoding)
    assert error.code is Code.MALFORMED_REQUEST
    assert "cut short" in error.message


@pytest.mark.parametrize("encoding", COMPRESS)
def test_something_behind_the_end(encoding: str) -> None:
    packed = COMPRESS[encoding](BODY)
    for behind in (b"\x00", packed):
        error = refusal(packed + behind, encoding)
        assert error.code is Code.MALFORMED_REQUEST
        assert "follows the end" in error.message


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("body", [b"not compressed", b"\x1f\x8b\xff" + bytes(20)])
def test_garbage(encoding: str, body: bytes) -> None:
    error = refusal(body, encoding)
    assert error.code is Code.MALFORMED_REQUEST
    assert f"no {encoding}" in error.message


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_wrong_checksum(encoding: str) -> None:
    packed = bytearray(COMPRESS[encoding](BODY))
    packed[-6 if encoding == "gzip" else -1] ^= 1
    assert refusal(bytes(packed), encoding).code is Code.MALFORMED_REQUEST


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "deflate,gzip", "", "x" * 9999])
def test_other_encodings_and_stacked_ones(encoding: str) -> None:
    error = refusal(gzip.compress(BODY), encoding)
    assert error.code is Code.UNSUPPORTED_MEDIA
    assert len(error.message) < 120
    with pytest.raises(InvalidRequest, match="not understood"):
        deflate([BODY], encoding)
