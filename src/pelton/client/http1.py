"""HTTP/1.1 from the client's side as bytes in and values out: no sockets, no clocks.

A request's head is text, built here. A reply is read by `ReplyReader`, which owns no socket: its
caller asks it where the next bytes should go (`buffer`), puts them there, and says how many came
(`received`) or that no more will (`ended`). A body whose length is known is received straight
into its final memory, so the arrays of an answer are views of what the socket wrote.

Message framing follows RFC 9112, section 6.3; the head is parsed by llhttp through `httptools`.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import httptools
import numpy as np

from pelton.errors import SettingsError

MAX_HEAD_BYTES = 64 * 1024
"""Largest head of a reply."""

_FIRST_READ_BYTES = 16 * 1024
"""Read for a head: enough for a whole small reply, and little to copy where a big body follows."""

_ALIGN_BYTES = 64
"""Arrays begin at multiples of this: a cache line, and the widest vector register."""

_SMALL_BYTES = 16 * 1024
"""Smaller blocks lie at multiples of `_NUMPY_ALIGN_BYTES` in any case, which will do for them."""

_NUMPY_ALIGN_BYTES = 16
"""How numpy's memory is aligned at least, on every machine that we know (C's `max_align_t`)."""

_JSON_PART = "inference-header-content-length"
"""Field that tells how long the JSON is that stands in a body before the arrays."""

_LENGTH = re.compile(r"[0-9]{1,15}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")


class BadReply(Exception):
    """What came is not a reply that HTTP/1.1 and our bounds allow; the text says why."""


Hear = Callable[[bytes | bytearray], None]
"""Is given all that has come of a reply's body, whenever there is more of it."""


class Request(NamedTuple):
    """What one request puts on the wire.

    Attributes:
        head: everything up to and including the empty line.
        chunks: the body; big pieces are the caller's own memory.
        stream: gives out the rest of a body that is not in memory; called again for each try.
        hear: is given the body of the reply whenever more of it has come.
        sign: writes the head anew for each try, where it holds a signature.
    """

    head: bytes
    chunks: Sequence[bytes | memoryview] = ()
    stream: Callable[[], Iterator[bytes]] | None = None
    hear: Hear | None = None
    sign: Callable[[], bytes] | None = None


class Reply(NamedTuple):
    """A whole reply.

    Attributes:
        status: the status code, from 200 on.
        headers: field values by lower-case name; repeated fields are joined with commas.
        body: the body's bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: memoryview


def check_headers(fields: Iterable[tuple[str, str]]) -> None:
    """Refuse header fields that would change the message's meaning.

    Raises:
        SettingsError: a name is no token, or a value holds a line break or another control
            character (RFC 9110, section 5.5).
    """
    for name, value in fields:
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise SettingsError(f"{name!r:.60} cannot be the name of a header")
        if not isinstance(value, str) or _FIELD_VALUE.fullmatch(value) is None:
            raise SettingsError(f"the value of the header {name:.60} holds a character it may not")


def build_head(method: str, target: str, fields: tuple[tuple[str, str], ...]) -> bytes:
    """Write a request's head (RFC 9112, section 3).

    Args:
        method: such as `GET`.
        target: path and query, already quoted.
        fields: header fields in order, already checked.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Head(NamedTuple):
    """A reply's head, and what follows from it.

    Attributes:
        status: the status code.
        headers: field values by lower-case name.
        persistent: whether the connection outlives a body whose end can be told.
        coding: the transfer coding, or None for none.
        length: the body's length, or None where it is not told.
        json_bytes: how long the JSON is that stands in the body before the arrays.
    """

    status: int
    headers: Mapping[str, str]
    persistent: bool
    coding: str | None
    length: int | None
    json_bytes: int


@functools.lru_cache(maxsize=64)
def _read_head(head: bytes) -> _Head:
    """Parse a head; a server on a kept connection sends the same one until the date changes."""
    found = _Found()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        raise BadReply("it switched to another protocol without being asked") from None
    except httptools.HttpParserError as error:
        raise BadReply(f"it does not speak HTTP/1.1 ({error})") from None
    status, headers = parser.get_status_code(), found.headers
    # llhttp has refused both fields together, and lengths that are repeated or no numbers.
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if status in (204, 304):
        coding, length = None, "0"
    json_part = headers.get(_JSON_PART, "")
    return _Head(
        status,
        headers,
        persistent=parser.get_http_version() == "1.1" and not _says_close(headers),
        coding=coding,
        length=None if length is None else int(length),
        json_bytes=int(json_part) if _LENGTH.fullmatch(json_part) else 0,
    )


class _Found:
    """What the parser has found in one message."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.head_complete = False
        self.complete = False
        self.overrun = False

    def on_message_begin(self) -> None:
        # A second message in one reply's bytes: the two sides no longer agree on where one ends.
        self.overrun = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:  # a trailer, which must not be merged into the head
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        if not self.overrun:
            self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class _Stage(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()


_HEAD, _LENGTH_KNOWN = _Stage.HEAD, _Stage.LENGTH
"""Members of an enumeration are slow to reach by their class, and every reply needs these."""


class ReplyReader:
    """Reads one reply.

    Attributes:
        started: whether any byte has come.
        answered: whether a final head has come, so that the server has made up its mind.
        keep_alive: once done, whether the connection may carry another request.
        done: whether the whole reply is here.
    """

    def __init__(self, scratch: bytearray, max_body_bytes: int) -> None:
        """Start before the first byte.

        Args:
            scratch: memory for heads and bodies of unknown length, `MAX_HEAD_BYTES` long.
            max_body_bytes: largest body that is taken.
        """
        self.started = False
        self.answered = False
        self.keep_alive = False
        self.done = False
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._max_body_bytes = max_body_bytes
        self._stage = _HEAD
        self._filled = 0
        self._head: _Head
        self._body: memoryview
        # Only for a body of unknown length:
        self._framing_bytes = 0
        self._found: _Found
        self._parser: httptools.HttpResponseParser

    @property
    def reply(self) -> Reply:
        """The reply, once done."""
        assert self.done
        return Reply(self._head.status, self._head.headers, self._body)

    def body_so_far(self) -> bytes | bytearray:
        """Return what has come of the body of a final reply."""
        if self._stage is _HEAD:
            return b""
        if self._stage is _LENGTH_KNOWN:
            return bytes(self._body[: self._filled])
        return self._found.body

    def buffer(self) -> memoryview:
        """Return the memory for the next bytes; never empty while the reply is not done."""
        if self._stage is _HEAD:
            return self._view[self._filled : self._filled + _FIRST_READ_BYTES]
        if self._stage is _LENGTH_KNOWN:
            return self._body[self._filled :]
        return self._view

    def received(self, count: int) -> None:
        """Take note that `count` bytes have been put into `buffer()`.

        Raises:
            BadReply: they do not continue a valid reply.
        """
        self.started = True
        if self._stage is _HEAD:
            self._filled += count
            self._read_heads(search_from=max(0, self._filled - count - 3))
        elif self._stage is _LENGTH_KNOWN:
            self._filled += count
            self.done = self._filled == len(self._body)
        else:
            self._append(self._view[:count])

    def ended(self) -> bool:
        """Take note that the server will send no more; say whether that completes the reply."""
        if self._stage is _Stage.UNTIL_CLOSE:
            self._finish(memoryview(self._found.body))
        return self.done

    def _read_heads(self, search_from: int) -> None:
        """Read the final head, and any interim ones (1xx) before it, from the scratch memory."""
        begin = 0
        while (blank := self._scratch.find(b"\r\n\r\n", search_from, self._filled)) >= 0:
            end = blank + 4
            raw = bytes(self._view[begin:end])
            self._head = _read_head(raw)
            if self._head.status >= 200:
                self.answered = True
                self._begin_body(raw, self._view[end : self._filled])
                return
            begin = search_from = end
        self._filled -= begin
        self._scratch[: self._filled] = self._scratch[begin : begin + self._filled]
        if self._filled == len(self._scratch):
            raise BadReply(f"its head is larger than {len(self._scratch)} bytes")

    def _begin_body(self, raw_head: bytes, rest: memoryview) -> None:
        """Choose how the body is delimited, and take what came together with the head."""
        head = self._head
        if head.length is not None:
            self.keep_alive = head.persistent and len(rest) <= head.length
            self._begin_length(head.length, rest)
            return
        self._found = _Found()
        if head.coding is None:
            self._stage = _Stage.UNTIL_CLOSE
        elif head.coding.lower() == "chunked":
            self.keep_alive = head.persistent
            self._stage = _Stage.CHUNKED
            self._parser = httptools.HttpResponseParser(self._found)
            self._parser.feed_data(raw_head)
        else:
            raise BadReply(f"it uses the transfer coding {head.coding!r:.40}")
        self._append(rest)

    def _begin_length(self, size: int, rest: memoryview) -> None:
        self._check_size(size)
        self._stage = _LENGTH_KNOWN
        self._body = _aligned(size, self._head.json_bytes)
        self._filled = min(size, len(rest))
        self._body[: self._filled] = rest[: self._filled]
        self.done = self._filled == size

    def _append(self, data: memoryview) -> None:
        """Add to a body of unknown length."""
        found = self._found
        before = len(found.body)
        if self._stage is _Stage.UNTIL_CLOSE:
            found.body += data
        else:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                if not found.complete:
                    raise BadReply(f"its chunks are malformed ({error})") from None
                found.overrun = True
        self._check_framing(len(data) - (len(found.body) - before))
        self._check_size(len(found.body))
        if found.complete:
            self.keep_alive = self.keep_alive and not found.overrun
            self._finish(memoryview(found.body))

    def _finish(self, body: memoryview) -> None:
        self._body = body
        self.done = True

    def _check_framing(self, count: int) -> None:
        """Bound what chunks cost besides their data: extensions, trailers, one-byte chunks."""
        self._framing_bytes += count
        if self._framing_bytes > MAX_HEAD_BYTES + 8 * len(self._found.body):
            raise BadReply("its chunks hold more framing than data")

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise BadReply(
                f"its answer is larger than the {self._max_body_bytes} bytes that "
                "Client(max_reply_bytes=...) allows"
            )


def _says_close(headers: dict[str, str]) -> bool:
    options = headers.get("connection", "").lower().split(",")
    return any(option.strip() == "close" for option in options)


def _aligned(size: int, lead: int) -> memoryview:
    """Return `size` bytes of memory of which the one numbered `lead` is aligned for any array.

    Not of a bytearray: that would be filled with zeros before the socket fills it again.
    """
    if size < _SMALL_BYTES and lead % _NUMPY_ALIGN_BYTES == 0:
        return np.empty(size, np.uint8).data
    block = np.empty(size + _ALIGN_BYTES, np.uint8).data
    start = -(ctypes.addressof(ctypes.c_char.from_buffer(block)) + lead) % _ALIGN_BYTES
    return block[start : start + size]
