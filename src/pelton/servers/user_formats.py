"""The three formats that `POST /infer` speaks, by media type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pelton.errors import Code, InvalidRequest
from pelton.messages import Value
from pelton.wire import msgpack_numpy, pickled, strict_json
from pelton.wire.limits import Limits

Chunks = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        media_type: how the reply is labelled.
        decode: body -> value, and the style in which the caller wrote it.
        encode: value, style -> chunks.
        quick_bytes: bodies up to this size decode fast enough for the event loop.
    """

    media_type: str
    decode: Callable[[memoryview, Limits], tuple[Value, Any]]
    encode: Callable[[Value, Any], Chunks]
    quick_bytes: int


def _decode_json(body: memoryview, limits: Limits) -> tuple[Value, None]:
    return strict_json.loads(body, limits), None


def _encode_json(value: Value, _style: None) -> Chunks:
    return [strict_json.dumps(value)]


PICKLE = Format("application/octet-stream", pickled.decode, pickled.encode, 16 * 1024)
JSON = Format("application/json", _decode_json, _encode_json, 16 * 1024)
MSGPACK = Format("application/msgpack", msgpack_numpy.decode, msgpack_numpy.encode, 256 * 1024)

_BY_MEDIA_TYPE = {
    "application/octet-stream": PICKLE,
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}


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
