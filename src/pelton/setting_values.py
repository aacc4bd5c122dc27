"""What a setting is, and the forms that settings are written in; errors say what is wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """What a setting's values look like.

    Attributes:
        told: for people, such as `size`.
        parse: text -> value; raises ValueError with what it wants, to follow "it has to be".
    """

    told: str
    parse: Callable[[str], Any]


ENVIRONMENT_PREFIX = "PELTON_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        name: the name everywhere; the flag has dashes for the underscores.
        default: the value where nothing is said.
        form: what its values look like, and how they are read.
        group: heading in the document.
        help: one sentence.
        file_only: whether it can be said in the settings file and nowhere else, so that it takes
            more than a word on a command line or in an environment.
    """

    name: str
    default: Any
    form: Form
    group: str
    help: str
    file_only: bool = False

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()


_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DURATION = re.compile(
    r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII
)
_A_DURATION = "a duration such as 30s, 250ms or 1h30m"
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def parse_size(written: str) -> int:
    """Read a number of bytes such as `67108864` or `64MiB`."""
    found = _SIZE.fullmatch(written.strip())
    if found is None:
        raise ValueError("a size such as 64MiB, 512KiB or 1000000")
    return int(found[1]) * _SIZE_UNITS[found[2]]


def parse_duration(written: str) -> float:
    """Read seconds from a duration such as `90`, `1.5s`, `250ms` or `1h30m`."""
    written = written.strip()
    if "_" in written:  # which Python allows between digits
        raise ValueError(_A_DURATION)
    try:
        seconds = float(written)
    except ValueError:
        found = _DURATION.fullmatch(written)
        if not written or found is None:
            raise ValueError(_A_DURATION) from None
        hours, minutes, whole, milli = (float(part or 0) for part in found.groups())
        seconds = hours * 3600 + minutes * 60 + whole + milli / 1000
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError("a duration that is not negative")
    return seconds


def parse_milliseconds(written: str) -> float:
    """Read milliseconds from a plain number of them, or from a duration such as `2ms` or `1s`."""
    try:
        value = parse_duration(written)
    except ValueError:
        raise ValueError("milliseconds such as 2 or 0.5, or a duration such as 1s") from None
    return value * 1000 if written.strip()[-1].isalpha() else value


def _parse_yes_no(written: str) -> bool:
    lowered = written.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return lowered in _TRUE


def _parse_device(written: str) -> str:
    if not re.fullmatch(r"cpu|auto|cuda(:[0-9]{1,3})?", written):
        raise ValueError("cpu, auto, cuda or cuda:N")
    return written


def _positive(parse: Callable[[str], float]) -> Callable[[str], float]:
    def parse_positive(written: str) -> float:
        value = parse(written)
        if not value:
            raise ValueError("more than 0")
        return value

    return parse_positive


def _parse_names(written: str) -> tuple[str, ...]:
    if written.strip() == "none":
        return ()
    names = tuple(name.strip() for name in written.split(","))
    if not all(names):
        raise ValueError("names with commas between them, or none")
    return names


def _parse_rate(written: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", written.strip()) or not float(written):
        raise ValueError("a number of requests per second, such as 10 or 0.5")
    return float(written)


SIZE = Form("size", _positive(parse_size))
SIZE_OR_NONE = Form("size", parse_size)
DURATION = Form("duration", parse_duration)
MILLISECONDS = Form("milliseconds", parse_milliseconds)
TIMEOUT = Form("duration", _positive(parse_duration))
YES_NO = Form("true | false", _parse_yes_no)
NAMES = Form("names", _parse_names)
RATE = Form("number", _parse_rate)
DEVICE = Form("cpu | auto | cuda:N", _parse_device)


def text(told: str) -> Form:
    """Any text but the empty one."""

    def parse(written: str) -> str:
        if not written.strip():
            raise ValueError("something, not empty")
        return written

    return Form(told, parse)


URL = text("URL")
"""It may hold a password, so it is shown without."""


def integer(low: int, high: int | None = None) -> Form:
    """A whole number from `low` to `high`."""
    wanted = (
        f"a whole number of at least {low}"
        if high is None
        else (f"a whole number from {low} to {high}")
    )

    def parse(written: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", written.strip()):
            raise ValueError(wanted)
        value = int(written)
        if value < low or (high is not None and value > high):
            raise ValueError(wanted)
        return value

    return Form("number", parse)


def or_auto(number: Form) -> Form:
    """A whole number, or the word `auto`, which is 0."""

    def parse(written: str) -> int:
        if written.strip() == "auto":
            return 0
        try:
            value: int = number.parse(written)
        except ValueError as error:
            raise ValueError(f"auto or {error}") from None
        return value

    return Form("auto | number", parse)


def choice(*allowed: str) -> Form:
    """One of the given words."""

    def parse(written: str) -> str:
        if written not in allowed:
            raise ValueError(" or ".join(allowed))
        return written

    return Form(" | ".join(allowed), parse)


def number(low: float, high: float) -> Form:
    """A number from `low` to `high`."""
    wanted = f"a number from {low:g} to {high:g}"

    def parse(written: str) -> float:
        try:
            value = float(written)
        except ValueError:
            raise ValueError(wanted) from None
        if "_" in written or not low <= value <= high:
            raise ValueError(wanted)
        return value

    return Form("number", parse)
