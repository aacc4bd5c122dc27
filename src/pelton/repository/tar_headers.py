"""Reads the headers of a `.tar`, strictly, and none of what the files in it hold.

A tar is a row of blocks of 512 bytes: for each entry a header, and behind it the entry's bytes,
filled up with zeros; two blocks of zeros end it (POSIX.1-2024, pax, "ustar Interchange Format").
Headers of the kinds `x` and `g` (pax) and `L` (GNU) hold what does not fit into the next one.

General readers of tars guess what an old or broken writer may have meant. A guess is a second
meaning, so here whatever is not as it must be is refused, with what was wrong and at which entry.
Each step moves forward by at least one block, so no archive is read for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pelton.errors import Code, InvalidRequest
from pelton.repository.names import shown

BLOCK_BYTES = 512
MAX_EXTENDED_BYTES = 64 * 1024
"""The most that one extended header may hold; a path and some dates need a few hundred bytes."""

_EXTENDED_PARTS = 128
"""How many times as much all of them together may hold."""

_FILE = (b"0", b"\0", b"7")
_FOLDER = b"5"
_REFUSED = {
    b"1": "is a hard link",
    b"2": "is a symbolic link",
    b"3": "is a device",
    b"4": "is a device",
    b"6": "is a pipe",
    b"K": "is a link with a long name",
    b"S": "is a sparse file; write the archive without --sparse",
}
_LONG_NAME, _PAX, _PAX_FOR_ALL = b"L", b"x", b"g"

_SETS_ID = 0o6000
_SETS_USER = 0o4000

_OCTAL = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_DECIMAL = re.compile(r"[0-9]{1,18}")
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")


@dataclass(frozen=True, slots=True)
class Header:
    """One entry of an archive, as its headers tell it.

    Attributes:
        path: as written, checked for nothing but its being text.
        is_folder: whether it is a folder; else it is a regular file.
        size_bytes: how much it holds.
        offset: where that begins in the archive.
    """

    path: str
    is_folder: bool
    size_bytes: int
    offset: int


def malformed(what: str) -> InvalidRequest:
    """Make the error for an archive that is not as it must be."""
    return InvalidRequest(what, Code.MALFORMED_REQUEST)


def has_header(block: bytes) -> bool:
    """Tell whether a block is the header of an entry, by its mark or by its checksum."""
    return block[257:262] == b"ustar" or (len(block) >= BLOCK_BYTES and _sum_is_right(block))


class HeaderReader:
    """Goes from header to header of one archive.

    Args:
        file: the archive, open for reading and seekable.
        size_bytes: its size.
        max_headers: of how many headers it may consist, extended ones included.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, max_headers: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._max_headers = max_headers
        self._at = 0
        self._headers = 0
        self._extended_bytes = 0

    def __iter__(self) -> Iterator[Header]:
        """Yield the entries in their order, up to the mark at the end.

        Raises:
            InvalidRequest: the archive is malformed, or holds what a model's folder may not
                hold (`MALFORMED_REQUEST`), or too many headers (`TOO_LARGE`).
        """
        said: dict[str, str] = {}
        while (block := self._next_block()) is not None:
            kind = block[156:157]
            if kind in (_LONG_NAME, _PAX, _PAX_FOR_ALL):
                self._extend(said, kind, self._extended(block))
                continue
            yield self._entry(block, said)
            said = {}
        if said:
            raise malformed("the archive ends behind a header that belongs to a further entry")

    def _next_block(self) -> bytes | None:
        """Return the next header's block, or None where the archive ends as it must."""
        block = self._read(BLOCK_BYTES)
        if not any(block):
            self._check_end()
            return None
        self._headers += 1
        if self._headers > self._max_headers:
            raise InvalidRequest(
                "the archive has too many entries; a model's folder has fewer files",
                Code.TOO_LARGE,
            )
        if not _sum_is_right(block):
            raise malformed(
                f"the archive is broken: the header at byte {self._at - BLOCK_BYTES} has a wrong "
                "checksum; write it anew with `tar -cf` and send all of it"
            )
        return block

    def _check_end(self) -> None:
        if any(self._read(BLOCK_BYTES)):
            raise malformed("the archive goes on behind a block of zeros, where it should end")
        while rest := self._file.read(1 << 20):
            if rest.count(0) != len(rest):
                raise malformed("something follows the archive's end; send one archive alone")

    def _read(self, size_bytes: int) -> bytes:
        self._file.seek(self._at)
        found = self._file.read(size_bytes)
        if len(found) != size_bytes:
            raise malformed("the archive is cut off: it has no end mark; send all of it")
        self._at += size_bytes
        return found

    def _skip(self, size_bytes: int, path: str) -> int:
        """Pass over an entry's bytes; return where they began."""
        if size_bytes > self._size_bytes - self._at:
            raise malformed(f"the archive is cut off within the entry {shown(path)}; send all")
        offset = self._at
        self._at += -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        return offset

    def _extended(self, block: bytes) -> bytes:
        size_bytes = _number(block[124:136], "size", "")
        self._extended_bytes += size_bytes
        if max(size_bytes, self._extended_bytes // _EXTENDED_PARTS) > MAX_EXTENDED_BYTES:
            raise InvalidRequest(
                "the archive's extended headers are too large; write it with `tar --format=ustar`",
                Code.TOO_LARGE,
            )
        held = self._skip(size_bytes, "@extended header")
        self._file.seek(held)
        return self._file.read(size_bytes)

    def _extend(self, said: dict[str, str], kind: bytes, content: bytes) -> None:
        """Add to what is said of the next entry."""
        if kind == _LONG_NAME:
            found = {"path": _text(content.removesuffix(b"\0"))}
        else:
            found = _pax_records(content)
        if kind == _PAX_FOR_ALL:
            if "path" in found or "size" in found:
                raise malformed("the archive sets a path or size for all of its entries at once")
            return
        if said.keys() & found.keys():
            raise malformed("the archive says the same of one entry twice")
        said.update(found)

    def _entry(self, block: bytes, said: Mapping[str, str]) -> Header:
        path = said["path"] if "path" in said else _path(block)
        kind = block[156:157]
        if kind not in (*_FILE, _FOLDER):
            what = _REFUSED.get(kind, "is of an unknown kind")
            raise malformed(
                f"the entry {shown(path)} {what}; an archive may hold regular files and folders "
                "only (`tar --dereference` stores what links lead to)"
            )
        is_folder = kind == _FOLDER
        mode = _number(block[100:108], "mode", path)
        if mode & (_SETS_USER if is_folder else _SETS_ID):
            raise malformed(f"the entry {shown(path)} sets a user or group id; run chmod a-s")
        size_bytes = _number(block[124:136], "size", path)
        if "size" in said:
            size_bytes = _decimal(said["size"], path)
        if is_folder and size_bytes:
            raise malformed(f"the entry {shown(path)} is a folder that has bytes of its own")
        return Header(path, is_folder, size_bytes, self._skip(size_bytes, path))


def _sum_is_right(block: bytes) -> bool:
    told = _OCTAL.fullmatch(block[148:156])
    if told is None or not told[1]:
        return False
    return sum(block[:148]) + sum(block[156:]) + 8 * ord(" ") == int(told[1], 8)


def _path(block: bytes) -> str:
    """Return the path that fits into a header; POSIX splits long ones in two."""
    path = _field_text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        path = f"{_field_text(block[345:500])}/{path}"
    return path


def _field_text(field: bytes) -> str:
    text, _, rest = field.partition(b"\0")
    if any(rest):
        raise malformed(f"the entry {shown(_text(text))} has a zero byte in its name")
    return _text(text)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise malformed(f"the entry {ascii(raw[:100])[1:]} has a name that is not UTF-8") from None


def _number(field: bytes, what: str, path: str) -> int:
    """Read a number: octal digits, or GNU's binary form where the first bit is set."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:])
        if number < 1 << 62:
            return number
    elif told := _OCTAL.fullmatch(field):
        return int(told[1] or b"0", 8)
    raise malformed(f"the entry {shown(path)} has a {what} that is none")


def _decimal(text: str, path: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise malformed(f"the entry {shown(path)} has a size that is none")
    return int(text)


def _pax_records(content: bytes) -> dict[str, str]:
    """Return what an extended header says of path and size; dates, owners and such are left out.

    Each record is `LENGTH KEY=VALUE` and a line feed, with the length of all of it.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        length = _PAX_LENGTH.match(content, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(content) or content[end - 1] != 10:
            raise malformed("the archive is broken: an extended header cannot be read")
        key, is_pair, value = content[length.end() : end - 1].partition(b"=")
        if not is_pair:
            raise malformed("the archive is broken: an extended header has no value")
        if key.startswith((b"GNU.sparse", b"SCHILY.realsize")):
            raise malformed("the archive holds a sparse file; write it without --sparse")
        if key in (b"path", b"size"):
            if key.decode() in found:
                raise malformed("an extended header says the same twice")
            found[key.decode()] = _text(value)
        at = end
    return found
