"""The three formats that `POST /infer` speaks, by media type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pelton.errors import Code, InvalidRequest
from pelton.messages import Value
from pelton.wire import msgpack_numpy, pickled, strict_json
from pelton.wire.limits import Limits
from pelton.wire.pickle_frame import opcode_bytes

Chunks = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        media_type: how the reply is labelled.
        decode: body -> value, and the style in which the caller wrote it.
        encode: value, style -> chunks.
        slow_bytes: how many bytes of a body cost time to decode, each by itself.
        quick_bytes: with up to so many of them, decoding is quick enough for the event loop.
        writes_views: whether arrays are written without looking at their elements.
    """

    media_type: str
    decode: Callable[[memoryview, Limits], tuple[Value, Any]]
    encode: Callable[[Value, Any], Chunks]
    slow_bytes: Callable[[memoryview], int]
    quick_bytes: int
    writes_views: bool

    def is_quick(self, body: memoryview) -> bool:
        """Tell whether a body may be decoded on the event loop."""
        return self.slow_bytes(body) <= self.quick_bytes


def _decode_json(body: memoryview, limits: Limits) -> tuple[Value, None]:
    return strict_json.loads(body, limits), None


def _encode_json(value: Value, _style: None) -> Chunks:
    return [strict_json.dumps(value)]


PICKLE = Format(
    "application/octet-stream", pickled.decode, pickled.encode, opcode_bytes, 16 * 1024, True
)
JSON = Format("application/json", _decode_json, _encode_json, len, 16 * 1024, False)
MSGPACK = Format(
    "application/msgpack", msgpack_numpy.decode, msgpack_numpy.encode, len, 16 * 1024, True
)

_BY_MEDIA_TYPE = {
    "application/octet-stream": PICKLE,
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}


@functools.lru_cache(maxsize=64)
def format_of(content_type: str | None) -> Format:
    """Choose the format by the request's Content-Type.

    Raises:
        InvalidRequest: the type is missing or not one of ours.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    found = _BY_MEDIA_TYPE.get(media_type)
    if found is None:
        raise InvalidRequest(
            f"Content-Type {media_type!r:.80} is not understood here; send one of "
            "application/json, application/octet-stream (pickle), application/msgpack",
            Code.UNSUPPORTED_MEDIA,
        )
    return found
