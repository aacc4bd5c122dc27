"""Reads TOML that may come from a stranger: how much it takes is bounded before it is parsed.

The parser of the standard library takes time and memory with the square of the parts of a dotted
name, a line of 200 kB that is one such name ends the process, and numbers may have so many digits
that they can never be written again. So one cheap look beforehand counts what lies in one another.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelton.errors import LoadFailed
from pelton.repository.own_files import MAX_CONFIG_BYTES, read_text

MAX_PARTS = 8
"""Most parts of a dotted name, such as `a.b.c`."""

MAX_DEPTH = 16
"""How deep arrays and tables in braces may lie in one another."""

MAX_WORD = 128
"""Longest name without quotes, number or date."""

KEPT = 8
"""So many texts are not parsed again: a publish reads its model's twice, while requests wait for
the interpreter. Nobody changes what they hold."""

_WHOLE = range(-(2**63), 2**64)
"""Whole numbers that any datatype can hold."""

_TOKEN = re.compile(
    r"""
      \#[^\n]*                                            # a comment
    | (?s:\"{3}(?:[^"\\]|\\.|"(?!""))*+"{3,5})            # texts over several lines; up to two
    | (?s:'{3}(?:[^']|'(?!''))*+'{3,5})                   # quotes at the end are part of them
    | (?P<open>\"{3}|'{3})
    | \"(?:[^"\\\n]|\\[^\n])*+"
    | '[^'\n]*+'
    | (?P<cut>["'])
    | (?P<word>[^\s\#"'.,=\[\]{}]+)
    | (?P<mark>[.,=\[\]{}\n])
    """,
    re.VERBOSE,
)


def read_toml(path: Path, told: str) -> Mapping[str, Any]:
    """Return what a TOML file holds.

    Args:
        path: the file.
        told: how messages shall name it.

    Raises:
        LoadFailed: it cannot be read, is no TOML, or is too large or too deep.
    """
    return _parsed(read_text(path, told, MAX_CONFIG_BYTES), told)


@functools.lru_cache(maxsize=KEPT)
def _parsed(text: str, told: str) -> Mapping[str, Any]:
    _check_bounds(text, told)
    try:
        table = tomllib.loads(text)
    # Also for a number that has too many digits, or a date that no calendar has.
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"{told} is no valid TOML: {error!s:.200}") from None
    _check_numbers(table, told)
    return table


def _check_bounds(text: str, told: str) -> None:
    """Refuse what would take the parser long, or much memory."""
    depth = parts = 0
    for token in _TOKEN.finditer(text):
        mark = token["mark"]
        if mark == ".":
            parts += 1
        elif mark is not None:
            parts = 0
            depth += (mark in "[{") - (mark in "]}")
        elif token["open"] or token["cut"]:
            _refuse(text, token.start(), told, "a text is not closed")
        elif token["word"] and len(token[0]) > MAX_WORD:
            _refuse(text, token.start(), told, f"a word has more than {MAX_WORD} characters")
        if parts >= MAX_PARTS:
            _refuse(text, token.start(), told, f"a name has more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            _refuse(text, token.start(), told, f"brackets lie more than {MAX_DEPTH} deep")


def _refuse(text: str, at: int, told: str, what: str) -> None:
    line = text.count("\n", 0, at) + 1
    raise LoadFailed(f"{told} is no valid TOML: {what} (at line {line})")


def _check_numbers(value: Any, told: str) -> None:
    """Refuse whole numbers beyond 64 bits, which TOML leaves to whoever reads it."""
    if isinstance(value, int) and value not in _WHOLE:
        raise LoadFailed(f"{told} holds a whole number of more than 64 bits")
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(item, told)
