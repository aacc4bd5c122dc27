"""How large the body of a request may be, and how much of it is ever held at once.

The body of an inference is held whole. An upload is as large as a model: it is handed on as it
comes, and the client waits while it is written, so that only a window of it is ever in memory.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pelton.servers.http_head import RequestHead

UPLOAD_HELD_BYTES = 2 * 1024 * 1024
"""What an upload is charged with: what has come and is not handed on, and what is being written."""

FORM_BYTES = 64 * 1024
"""What a form may add to the file in it."""

SLOWEST_UPLOAD_BYTES_PER_S = 64 * 1024
"""Beyond the time that any body has, an upload has to move this fast on average."""

_UPLOAD = re.compile(r"/v2/repository/models/[^/]+/versions|(?P<form>/update_model)")


class BodyBound(NamedTuple):
    """What holds for one request.

    Attributes:
        max_bytes: size of its body.
        held_bytes: what of it is in memory at once.
        is_upload: whether it is handed on as it comes.
    """

    max_bytes: int
    held_bytes: int
    is_upload: bool = False


class BodyBounds:
    """Knows what holds for each request.

    Args:
        max_body_bytes: size of the body of any request but uploads.
        max_upload_bytes: size of an uploaded file; None where nothing can be uploaded.
    """

    def __init__(self, max_body_bytes: int, max_upload_bytes: int | None = None) -> None:
        self._usual = BodyBound(max_body_bytes, max_body_bytes)
        self._max_upload_bytes = max_upload_bytes

    def of(self, head: RequestHead) -> BodyBound:
        """Return what holds for a request.

        An address that is spelled in another way than usual is taken for one of the others: its
        body may be refused, but never takes more memory than it may.
        """
        if head.call is not None or head.method != "POST" or self._max_upload_bytes is None:
            return self._usual
        found = _UPLOAD.fullmatch(head.path)
        if found is None:
            return self._usual
        beside = FORM_BYTES if found["form"] else 0
        return BodyBound(self._max_upload_bytes + beside, UPLOAD_HELD_BYTES, is_upload=True)
