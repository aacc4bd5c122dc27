"""The bodies of uploads as they come: piece by piece, never whole.

A piece is asked for once the one before has been taken, and while none is asked for, the
connection is not read: a client sends as fast as the server writes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from pelton.errors import Code, InvalidRequest
from pelton.servers.model_control import UploadRequest
from pelton.wire.multipart import MultipartReader, PartBegins, PartEnds

MAX_FIELD_BYTES = 256
"""Longest value of a form's field that is not the file."""

FILE, DEVICE = "file", "device"

_DEVICE = re.compile(r"cpu|auto|cuda(:[0-9]{1,3})?")


async def pieces_of(request: Request) -> AsyncGenerator[bytes]:
    """Receive a body.

    Raises:
        InvalidRequest: it broke off; nobody is there to read that, but whoever takes the pieces
            must not take them for all.
    """
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect:
        raise InvalidRequest(
            "the upload broke off before its end", Code.MALFORMED_REQUEST
        ) from None


async def file_in_form(
    pieces: AsyncIterator[bytes], boundary: bytes, upload: UploadRequest
) -> AsyncGenerator[bytes]:
    """Give out the file in a form, and note what the form says besides.

    Args:
        pieces: the form.
        boundary: between its parts.
        upload: gets its `device`, at the latest with the last piece.

    Raises:
        InvalidRequest: it is no form, or has other fields than `file` and `device`, each once.
    """
    reader = MultipartReader(boundary)
    seen: set[str] = set()
    field, value = "", b""
    async for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, PartBegins):
                field, value = _new_field(event.name, seen), b""
            elif isinstance(event, PartEnds):
                if field == DEVICE:
                    upload.device = _checked_device(value)
            elif field == FILE:
                yield event
            else:
                value = _longer(value, event)
    reader.end()
    if FILE not in seen:
        raise InvalidRequest('the form has no field "file" with the .tar of the model')


def _new_field(name: str, seen: set[str]) -> str:
    if name not in (FILE, DEVICE):
        raise InvalidRequest(
            f'the form has the unknown field {name!r:.60}; known are "file" and "device"'
        )
    if name in seen:
        raise InvalidRequest(f'the form has the field "{name}" twice')
    seen.add(name)
    return name


def _longer(value: bytes, more: bytes) -> bytes:
    if len(value) + len(more) > MAX_FIELD_BYTES:
        raise InvalidRequest(
            f'the field "device" has more than {MAX_FIELD_BYTES} bytes', Code.TOO_LARGE
        )
    return value + more


def _checked_device(value: bytes) -> str:
    """Return the name of a device; where the form says nothing, the model's own choice holds."""
    name = value.decode("utf-8", "replace")
    if name and _DEVICE.fullmatch(name) is None:
        raise InvalidRequest(
            f'the field "device" is {name!r:.60}; it has to be cpu, auto, cuda or cuda:N'
        )
    return name
