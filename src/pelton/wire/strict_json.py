r"""JSON as RFC 8259 has it and no wider, so that no two readers see two different messages.

The standard library's decoder does the work. It is lenient where a server must not be: it
takes `NaN`, turns `1e999` into infinity, keeps the last of two equal keys, and makes text that
no UTF-8 can carry from `"\ud800"`. All of these are refused here. Nesting and the number of
containers are counted before anything is built.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

import numpy as np

from pelton.errors import Code, InvalidRequest
from pelton.wire.limits import Limits

MAX_CONTAINERS = 2**21
"""Lists and objects of one text: enough for a Full HD image as nested lists. Each costs up to
100 times the two bytes that it takes on the wire."""

# The closing quote is optional, so that an open string is matched too and never searched twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE_ESCAPES = (b"\\ud", b"\\uD")


def loads(raw: bytes | memoryview, limits: Limits) -> Any:
    """Read one JSON value.

    Args:
        raw: UTF-8 without a byte order mark.
        limits: `max_json_bytes` and `max_json_depth` hold here.

    Raises:
        InvalidRequest: the text is no strict JSON (`MALFORMED_REQUEST`), or it is too long or holds
            more than `MAX_CONTAINERS` lists and objects (`TOO_LARGE`).
    """
    if len(raw) > limits.max_json_bytes:
        raise InvalidRequest(
            f"the JSON has {len(raw)} bytes; at most {limits.max_json_bytes} are read, "
            "so send big tensors as binary data",
            Code.TOO_LARGE,
        )
    data = bytes(raw)
    _check_nesting(data, limits.max_json_depth)
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if any(escape in data for escape in _SURROGATE_ESCAPES):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise _malformed("the JSON is not UTF-8, or holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise _malformed(f"the JSON is broken: {error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise _malformed("the JSON holds an integer of too many digits") from error
    except RecursionError as error:
        raise _malformed("the JSON is nested too deeply") from error
    return value


def dumps(value: Any) -> bytes:
    """Write a value as compact JSON in UTF-8.

    Arrays become nested lists, numpy scalars become numbers, and `bytes` become text if they
    are UTF-8. JSON has no word for a float that is not finite: it becomes one of the strings
    "NaN", "Infinity" and "-Infinity", never null.

    Raises:
        TypeError: the value holds something that JSON cannot carry.
    """
    try:
        try:
            return _ENCODER.encode(value).encode("utf-8")
        except ValueError:
            # Not the common case, so only now is every value looked at.
            return _ENCODER.encode(_with_named_floats(value)).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise TypeError(f"JSON cannot carry this: {error!s:.100}") from error


def _check_nesting(data: bytes, max_depth: int) -> None:
    containers = data.count(b"[") + data.count(b"{")
    if containers <= max_depth:
        return
    brackets = _STRING.sub(b"", data).translate(None, _ALL_BUT_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise InvalidRequest(
            f"the JSON holds more than {MAX_CONTAINERS} lists and objects; send binary data",
            Code.TOO_LARGE,
        )
    each = np.frombuffer(brackets, np.uint8)
    steps = np.where((each == ord("[")) | (each == ord("{")), 1, -1)
    if steps.size and int(np.cumsum(steps).max()) > max_depth:
        raise _malformed(f"the JSON is nested more than {max_depth} levels deep")


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(message, Code.MALFORMED_REQUEST)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _malformed(f"the JSON has the key {twice!r:.60} twice in one object")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _malformed(f"the number {digits:.40} is too large for a float")
    return number


def _no_constant(word: str) -> NoReturn:
    raise _malformed(f'{word} is no JSON; where floats are expected, send the string "{word}"')


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TypeError("JSON cannot carry bytes that are not UTF-8 text") from error
    raise TypeError(f"JSON cannot carry a {type(value).__name__}")


def _with_named_floats(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _with_named_floats(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_named_floats(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _with_named_floats(value.tolist())
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)
_ENCODER = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
)
