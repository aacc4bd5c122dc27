r"""Reads `multipart/form-data` as it comes, strictly, and holds next to nothing of it.

A form is a row of parts, each with a few header lines, an empty line and its bytes, set apart by
lines that begin with two dashes and the boundary (RFC 2046, 5.1.1; RFC 7578):

    --boundary\r\n
    Content-Disposition: form-data; name="file"; filename="policy.tar"\r\n
    \r\n
    ...bytes...\r\n
    --boundary--\r\n

What the standard allows and no sender of forms writes is refused: text before the first boundary
or behind the last one, spaces behind a boundary, folded lines, encodings of a part. So there is
one reading of any form.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from pelton.errors import Code, InvalidRequest

MAX_PART_HEAD_BYTES = 8 * 1024
MAX_PART_HEADERS = 8
MAX_PARTS = 16

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_CONTENT_TYPE = re.compile(
    r'multipart/form-data[ \t]*;[ \t]*boundary=(?:"([^"\\]*)"|([^\s";,]*))[ \t]*;?', re.IGNORECASE
)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_PARAMETER = re.compile(
    rb';[ \t]*([!#$%&\'+.^_`|~0-9A-Za-z-]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))[ \t]*'
)
_FORM_DATA = b"form-data"
_PLAIN_ENCODINGS = (b"7bit", b"8bit", b"binary")


class PartBegins(NamedTuple):
    """A part's head is read.

    Attributes:
        name: of the form's field.
    """

    name: str


class PartEnds(NamedTuple):
    """All bytes of a part have been given out."""


Event = PartBegins | bytes | PartEnds
"""`bytes` are some of the part that began last."""


class _Step(enum.Enum):
    FIRST_BOUNDARY = enum.auto()
    BEHIND_BOUNDARY = enum.auto()
    HEAD = enum.auto()
    BYTES = enum.auto()
    END = enum.auto()


def boundary_of(content_type: str | None) -> bytes:
    """Return the boundary of a form.

    Args:
        content_type: the request's `Content-Type`.

    Raises:
        InvalidRequest: it is no form (`UNSUPPORTED_MEDIA`), or its boundary is none.
    """
    if not (content_type or "").lower().startswith("multipart/form-data"):
        raise InvalidRequest(
            f"Content-Type {content_type or '':.80} is no form; send multipart/form-data, "
            "such as `curl -F file=@model.tar`",
            Code.UNSUPPORTED_MEDIA,
        )
    found = _CONTENT_TYPE.fullmatch(content_type or "")
    boundary = (found[1] if found[1] is not None else found[2]) if found else ""
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("its Content-Type must name a boundary of 1 to 70 characters")
    return boundary.encode("ascii")


class MultipartReader:
    """Takes a form apart, whatever the pieces in which it comes.

    At most the longest head of a part, or what may be the beginning of a boundary, is held.

    Args:
        boundary: as `boundary_of` returns it.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first boundary stands at the start of a line, too, though none ends before it.
        self._held = bytearray(b"\r\n")
        self._step = _Step.FIRST_BOUNDARY
        self._parts = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, and return what they tell, in order.

        Raises:
            InvalidRequest: they do not continue a form, or pass a bound (`TOO_LARGE`).
        """
        self._held += data
        events: list[Event] = []
        while self._go_on(events):
            pass
        return events

    def end(self) -> None:
        """Take note that no more bytes come.

        Raises:
            InvalidRequest: the form is not complete.
        """
        if self._step is not _Step.END:
            raise _malformed("it ends before its last boundary")

    def _go_on(self, events: list[Event]) -> bool:
        """Do one step, if enough has come for it."""
        match self._step:
            case _Step.FIRST_BOUNDARY:
                return self._read_first()
            case _Step.BEHIND_BOUNDARY:
                return self._read_behind()
            case _Step.HEAD:
                return self._read_head(events)
            case _Step.BYTES:
                return self._read_bytes(events)
        if bytes(self._held) not in (b"", b"\r", b"\r\n"):
            raise _malformed("something follows its last boundary")
        return False

    def _read_first(self) -> bool:
        beginning = self._held[: len(self._delimiter)]
        if not self._delimiter.startswith(beginning):
            raise _malformed("it does not begin with its boundary")
        if len(beginning) < len(self._delimiter):
            return False
        del self._held[: len(beginning)]
        self._step = _Step.BEHIND_BOUNDARY
        return True

    def _read_behind(self) -> bool:
        if len(self._held) < 2:
            return False
        behind = bytes(self._held[:2])
        del self._held[:2]
        if behind == b"\r\n":
            self._step = _Step.HEAD
        elif behind == b"--":
            self._step = _Step.END
        else:
            raise _malformed("a boundary is followed by something else than a line's end")
        return True

    def _read_head(self, events: list[Event]) -> bool:
        end = self._held.find(b"\r\n\r\n", 0, MAX_PART_HEAD_BYTES)
        if end < 0:
            if len(self._held) >= MAX_PART_HEAD_BYTES:
                raise _too_large(f"a part's head has more than {MAX_PART_HEAD_BYTES} bytes")
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _too_large(f"it has more than {MAX_PARTS} parts")
        events.append(PartBegins(_name_in(bytes(self._held[:end]))))
        del self._held[: end + 4]
        self._step = _Step.BYTES
        return True

    def _read_bytes(self, events: list[Event]) -> bool:
        held = self._held
        at = held.find(self._delimiter)
        if at >= 0:
            if at:
                events.append(bytes(held[:at]))
            events.append(PartEnds())
            del held[: at + len(self._delimiter)]
            self._step = _Step.BEHIND_BOUNDARY
            return True
        # Its last bytes may be the beginning of a boundary.
        sure = max(0, len(held) - len(self._delimiter) + 1)
        begins = held.find(b"\r", sure)
        sure = len(held) if begins < 0 else begins
        if sure:
            events.append(bytes(held[:sure]))
            del held[:sure]
        return False


def _name_in(head: bytes) -> str:
    """Return which field a part is, from its head."""
    headers: dict[bytes, bytes] = {}
    lines = head.split(b"\r\n")
    if len(lines) > MAX_PART_HEADERS:
        raise _too_large(f"a part has more than {MAX_PART_HEADERS} headers")
    for line in lines:
        found = _HEADER.fullmatch(line)
        name = found[1].lower() if found else b""
        if found is None or name in headers:
            raise _malformed("a part's header is broken or repeated")
        headers[name] = found[2].strip(b" \t")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise _malformed("a part is encoded; send its bytes as they are")
    return _field_name(headers.get(b"content-disposition", b""))


def _field_name(disposition: bytes) -> str:
    if disposition[: len(_FORM_DATA)].lower() != _FORM_DATA:
        raise _malformed("a part has no `Content-Disposition: form-data`")
    rest = disposition[len(_FORM_DATA) :].lstrip(b" \t")
    parameters: dict[bytes, bytes] = {}
    while rest:
        found = _PARAMETER.match(rest)
        if found is None or found[1].lower() in parameters:
            raise _malformed("a part's Content-Disposition is broken")
        parameters[found[1].lower()] = found[2] if found[2] is not None else found[3]
        rest = rest[found.end() :]
    try:
        name = parameters[b"name"].decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        raise _malformed("a part does not tell its field's name") from None
    return name


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"the form cannot be read: {why}", Code.MALFORMED_REQUEST)


def _too_large(why: str) -> InvalidRequest:
    return InvalidRequest(f"the form cannot be read: {why}", Code.TOO_LARGE)
