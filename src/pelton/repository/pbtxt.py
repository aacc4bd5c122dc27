"""Reads the text format of protocol buffers, in which a `config.pbtxt` is written.

    name: "net"                    # a scalar: text, number, or a bare word
    dims: [ 3, 224, 224 ]          # the same as three times `dims: ...`
    instance_group [ { count: 2 }, { count: 1 } ]
    version_policy: { all { } }    # a message, with a colon or without

The grammar is that of the Protocol Buffers Text Format Language Specification; left out are
extensions and `Any`, whose names stand in square brackets. The text may come from a stranger:
its size and depth are bounded, and whatever is wrong is told with the number of its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from pelton.errors import LoadFailed

MAX_TEXT_CHARACTERS = 1 << 20
"""Longest text that is read."""

MAX_DEPTH = 32
"""How deep messages may lie in one another."""


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word in the place of a value: `true`, `inf`, or a name of an enumeration."""

    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one message.

    Attributes:
        fields: name -> its values in order; empty for an empty list.
        lines: name -> the line, from 1, on which it stands first.
        line: the line of its first field, or of its end where it has none.
    """

    fields: dict[str, list[Value]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    line: int = 1


Value = str | int | float | Word | Message
"""What a field may hold; a sign before a word makes it a float (`-inf`, `-nan`)."""

_SPACE = r"(?:[ \n\t\v\f\r]|\#[^\n]*)*"
_TOKEN = re.compile(
    _SPACE
    + r"""(?:
      (?P<float>(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?
              |[0-9]+[eE][+-]?[0-9]+[fF]?
              |(?:0|[1-9][0-9]*)[fF])(?![A-Za-z0-9_.])
    | (?P<whole>0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(?![A-Za-z0-9_.])
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<text>"(?:[^"\\\n\x00]|\\[^\n])*"|'(?:[^'\\\n\x00]|\\[^\n])*')
    | (?P<mark>[-:,;{}<>\[\]])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)

_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv?\\'\"])|(?P<octal>[0-7]{1,3})|x(?P<hex>[0-9a-fA-F]{1,2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<wrong>.))"
)
_PLAIN = dict(zip("abfnrtv?\\'\"", b"\a\b\f\n\r\t\v?\\'\"", strict=True))
_CLOSING = {"{": "}", "<": ">"}


def parse(text: str, told: str) -> Message:
    """Return the message that a text holds.

    Args:
        text: the text.
        told: how messages shall name where it came from.

    Raises:
        LoadFailed: it is no such text, or is too long or too deep.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise LoadFailed(f"{told} is longer than {MAX_TEXT_CHARACTERS} characters")
    return _Parser(text, told).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Reads one text from front to back, a token at a time."""

    def __init__(self, text: str, told: str) -> None:
        self._text = text
        self._told = told
        self._tokens = self._scan()
        self._next = next(self._tokens)
        # Places come in order, so each line break is counted once.
        self._counted, self._line = 0, 1

    def whole(self) -> Message:
        message = self._message("", 0)
        if self._next.kind != "end":
            self._refuse("a name of a field")
        return message

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while True:
            match = _TOKEN.match(self._text, at)
            if match is None:
                space = re.compile(_SPACE).match(self._text, at)
                assert space is not None
                self._fail(space.end(), self._unread(space.end()))
            kind = match.lastgroup or "end"
            yield _Token(kind, match[kind], match.start(kind))
            at = match.end()

    def _unread(self, at: int) -> str:
        if self._text[at] in "\"'":
            return "a text is not closed on its line, or holds a null character"
        piece = re.match(r"[^ \n\t\v\f\r]{1,20}", self._text[at : at + 20])
        return f"{piece and piece[0]!r} is no value, name or mark"

    def _message(self, closing: str, depth: int) -> Message:
        if depth > MAX_DEPTH:
            self._fail(self._next.at, f"messages lie more than {MAX_DEPTH} deep in one another")
        message = Message(line=self._line_of(self._next.at) if closing else 1)
        while self._next.kind == "word":
            name = self._take()
            values = message.fields.setdefault(name.text, [])
            message.lines.setdefault(name.text, self._line_of(name.at))
            values += self._values(depth)
            if not self._accept(","):
                self._accept(";")
        if closing and not self._accept(closing):
            self._refuse(f"a name of a field or {closing!r}")
        return message

    def _values(self, depth: int) -> list[Value]:
        """Return the values behind a field's name; only messages may do without a colon."""
        colon = self._accept(":")
        if not self._accept("["):
            return [self._value(depth, colon)]
        values: list[Value] = []
        if self._accept("]"):
            return values
        while True:
            values.append(self._value(depth, colon))
            if self._accept("]"):
                return values
            if not self._accept(","):
                self._refuse("',' or ']'")

    def _value(self, depth: int, colon: bool) -> Value:
        for opening, closing in _CLOSING.items():
            if self._accept(opening):
                return self._message(closing, depth + 1)
        if not colon:
            self._refuse("':' or '{'")
        return self._scalar()

    def _scalar(self) -> Value:
        if self._next.kind == "text":
            return self._texts()
        negative = self._accept("-")
        if self._next.kind not in ("word", "whole", "float"):
            self._refuse("a value")
        token = self._take()
        if token.kind == "word":
            return self._negative_word(token) if negative else Word(token.text)
        if token.kind == "float":
            number: int | float = float(token.text.rstrip("fF"))
        else:
            number = self._whole(token)
        return -number if negative else number

    def _negative_word(self, token: _Token) -> float:
        if token.text.lower() not in ("inf", "infinity", "nan"):
            self._fail(token.at, f"'-' stands before {token.text!r:.40}")
        return -float(token.text)

    def _whole(self, token: _Token) -> int:
        digits = token.text
        # The largest number of 64 bits has 22 octal digits; longer ones take long to read.
        if len(digits) > 24:
            self._fail(token.at, f"the number {digits:.12}... has too many digits")
        if digits[:2] in ("0x", "0X"):
            return int(digits, 16)
        return int(digits, 8 if digits[0] == "0" else 10)

    def _texts(self) -> str:
        """Return adjacent texts as one; escapes name bytes, and together they are UTF-8."""
        begin, parts = self._next.at, []
        while self._next.kind == "text":
            parts.append(self._unescaped(self._take()))
        try:
            return b"".join(parts).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(begin, "a text is not UTF-8")

    def _unescaped(self, token: _Token) -> bytes:
        parts, at, inner = [], 0, token.text[1:-1]
        for match in _ESCAPE.finditer(inner):
            parts += [inner[at : match.start()].encode(), self._escape(match, token)]
            at = match.end()
        parts.append(inner[at:].encode())
        return b"".join(parts)

    def _escape(self, match: re.Match[str], token: _Token) -> bytes:
        kind = match.lastgroup or ""
        value = match[kind]
        if kind == "plain":
            return bytes([_PLAIN[value]])
        number = -1 if kind == "wrong" else int(value, 8 if kind == "octal" else 16)
        is_byte = kind in ("octal", "hex")
        if not 0 <= number < (256 if is_byte else 0x110000) or 0xD800 <= number < 0xE000:
            self._fail(token.at, f"{match[0]!r} is no escape that a text may hold")
        return bytes([number]) if is_byte else chr(number).encode()

    def _take(self) -> _Token:
        token, self._next = self._next, next(self._tokens)
        return token

    def _accept(self, mark: str) -> bool:
        if self._next.kind != "mark" or self._next.text != mark:
            return False
        self._take()
        return True

    def _line_of(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return self._line

    def _refuse(self, wanted: str) -> NoReturn:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text)[:40]
        self._fail(token.at, f"expected is {wanted}, and there is {found}")

    def _fail(self, at: int, what: str) -> NoReturn:
        line = self._text.count("\n", 0, at) + 1
        raise LoadFailed(f"{self._told}, line {line}: {what}")
