"""Compressed bodies: gzip and deflate, one layer, and never more output than is allowed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from pelton.errors import Code, InvalidRequest

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content coding -> what zlib calls its container; `deflate` is the zlib format (RFC 9110)."""

_LEVEL = 1
"""Tensors gain little from trying harder, and the sender waits."""


def inflate(body: bytes | memoryview, encoding: str, max_bytes: int) -> bytes:
    """Decompress a body.

    Args:
        body: as it came.
        encoding: the value of `Content-Encoding`.
        max_bytes: most that may come out; decompression stops there.

    Raises:
        InvalidRequest: the encoding is neither `gzip` nor `deflate`, or more than one
            (`UNSUPPORTED_MEDIA`); more would come out (`TOO_LARGE`); or the body is broken, cut
            short, or has something behind its end (`MALFORMED_REQUEST`).
    """
    inflater = zlib.decompressobj(_WINDOW_BITS[_known(encoding)])
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is no {encoding}", Code.MALFORMED_REQUEST) from error
    if len(plain) > max_bytes:
        raise InvalidRequest(
            f"the body is larger than {max_bytes} bytes when decompressed", Code.TOO_LARGE
        )
    if not inflater.eof:
        raise InvalidRequest(f"the {encoding} body is cut short", Code.MALFORMED_REQUEST)
    if inflater.unused_data:
        raise InvalidRequest(
            f"something follows the end of the {encoding} body", Code.MALFORMED_REQUEST
        )
    return plain


def deflate(chunks: Iterable[bytes | memoryview], encoding: str) -> bytes:
    """Compress the pieces of a body into one; the same bytes for the same pieces.

    Raises:
        InvalidRequest: the encoding is neither `gzip` nor `deflate`.
    """
    deflater = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[_known(encoding)])
    pieces = [deflater.compress(chunk) for chunk in chunks]
    return b"".join([*pieces, deflater.flush()])


def _known(encoding: str) -> str:
    name = encoding.strip().lower()
    if name not in _WINDOW_BITS:
        raise InvalidRequest(
            f"Content-Encoding {encoding!r:.40} is not understood; use gzip or deflate",
            Code.UNSUPPORTED_MEDIA,
        )
    return name
