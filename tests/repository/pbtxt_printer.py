"""Prints messages in the text format of protocol buffers, in its many allowed forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pelton.repository.pbtxt import Message, Value, Word

Choose = Callable[[Sequence[str]], str]
"""Picks one of several ways to write the same."""

SPACES = (" ", "\n", "\t ", ' # a remark: { " [\n', "\r\n")


def printed(message: Message, choose: Choose) -> str:
    """Return a message as text."""
    return "".join(_field(name, values, choose) for name, values in message.fields.items())


def _field(name: str, values: Sequence[Value], choose: Choose) -> str:
    messages = bool(values) and all(isinstance(value, Message) for value in values)
    colon = choose([":", "", ": "]) if messages else choose([":", " :", ":\n"])
    end = choose(SPACES) if choose(["space", "mark"]) == "space" else choose([",", ";", ";\n"])
    if len(values) == 1 and choose(["plain", "list"]) == "plain":
        return f"{name}{colon}{_value(values[0], choose)}{end}"
    if len(values) > 1 and choose(["list", "again"]) == "again":
        return "".join(_field(name, [value], choose) for value in values)
    inner = f"{choose(SPACES)},{choose(SPACES)}".join(_value(value, choose) for value in values)
    return f"{name}{colon}[{choose(SPACES)}{inner}{choose(SPACES)}]{end}"


def _value(value: Value, choose: Choose) -> str:
    if isinstance(value, Message):
        opening, closing = choose(["{}", "<>"])
        return f"{opening}{choose(SPACES)}{printed(value, choose)}{closing}"
    if isinstance(value, str):
        return _text(value, choose)
    if isinstance(value, Word):
        return value.text
    if isinstance(value, float):
        return _float(value, choose)
    return choose(
        [str(value), f"{'-' * (value < 0)}{choose(['0x', '0X'])}{abs(value):x}", _octal(value)]
    )


def _octal(value: int) -> str:
    return f"{'-' * (value < 0)}0{abs(value):o}" if value else "0"


def _float(value: float, choose: Choose) -> str:
    sign = "- " if math.copysign(1, value) < 0 else ""
    if math.isinf(value) or math.isnan(value):
        return sign + ("inf" if math.isinf(value) else "nan")  # with the sign before it
    text = repr(abs(value))
    return sign + choose([text, text + "f"])


_ESCAPES: Mapping[str, str] = {"\n": r"\n", "\\": "\\\\", '"': r"\"", "'": r"\'", "\x00": r"\0"}


def _text(value: str, choose: Choose) -> str:
    quote = choose(['"', "'"])
    parts = []
    for character in value:
        if character in _ESCAPES or choose(["plain", "escaped"]) == "escaped":
            parts.append(_escaped(character, choose))
        else:
            parts.append(character)
    middle = choose(["", f"{quote} {quote}"])
    half = len(parts) // 2
    return f"{quote}{''.join(parts[:half])}{middle}{''.join(parts[half:])}{quote}"


def _escaped(character: str, choose: Choose) -> str:
    if choose(["bytes", "number"]) == "number":
        return f"\\U{ord(character):08x}"
    if choose(["octal", "hex"]) == "octal":
        return "".join(f"\\{byte:03o}" for byte in character.encode())
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
