"""One record is one line, whatever text from outside stands in it."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator

import pytest

from pelton.access.keys import make_key
from pelton.cli.log_format import JsonLines, TextLines, escaped, set_up_logging
from pelton.records import Scope

HOSTILE = {
    "line break": ("a\nERROR forged", "a\\nERROR forged"),
    "return": ("a\rERROR forged", "a\\rERROR forged"),
    "both": ("a\r\nb", "a\\r\\nb"),
    "colours": ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
    "bell, NUL, tab": ("\x07\x00\t", "\\x07\\x00\\t"),
    "vertical tab, form feed": ("\x0b\x0c", "\\x0b\\x0c"),
    "DEL and C1 controls": ("\x7f\x85\x9b31m", "\\x7f\\x85\\x9b31m"),
    "Unicode line breaks": ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    "plain": ("größer 你好 \\n", "größer 你好 \\n"),
}


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(
        "pelton.test", logging.WARNING, "here.py", 1, message, args, exc_info, "function"
    )
    made.created, made.msecs = 0.25, 250.0
    return made


def raised(error: Exception) -> Exception:
    """Return an error that has a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(("message", "safe"), HOSTILE.values(), ids=HOSTILE)
def test_control_characters_are_written_out(message: str, safe: str) -> None:
    assert escaped(message) == safe
    assert TextLines().format(record("%s", message)).endswith(f" WARNING {safe}")


@pytest.mark.parametrize(("message", "safe"), HOSTILE.values(), ids=HOSTILE)
def test_json_carries_the_message_unchanged_in_one_line(message: str, safe: str) -> None:
    line = JsonLines().format(record("%s", message))
    assert json.loads(line)["message"] == message
    assert line.isascii()
    assert line.isprintable()


@pytest.fixture
def far_east(monkeypatch) -> Iterator[None]:
    """A time zone nine hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_a_text_line_tells_the_time_here() -> None:
    line = TextLines().format(record("model %s is ready", "digits"))
    assert line == "09:00:00 WARNING model digits is ready"


@pytest.mark.usefixtures("far_east")
def test_a_json_line_tells_the_time_in_utc() -> None:
    assert json.loads(JsonLines().format(record("model %s is ready", "digits"))) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "pelton.test",
        "message": "model digits is ready",
    }


def test_a_traceback_stands_indented_below_its_line() -> None:
    error = raised(ValueError("first\nsecond\x1b[31m\n12:00:00 ERROR forged"))
    lines = TextLines().format(record("it failed", error=error)).splitlines()
    assert lines[0].endswith(" WARNING it failed")
    assert lines[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-3:] == [
        "    ValueError: first",
        "    second\\x1b[31m",
        "    12:00:00 ERROR forged",
    ]


def test_a_traceback_is_one_field_of_a_json_line() -> None:
    line = JsonLines().format(record("it failed", error=raised(ValueError("a\nb"))))
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: a\nb")


@pytest.fixture
def logging_as_it_was(monkeypatch):
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = root.handlers[:], root.level, uvicorn.level
    root.handlers[:] = []
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    uvicorn.setLevel(before[2])


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_of_the_level_and_above_go_to_standard_error(style, level, shown, capsys) -> None:
    set_up_logging(style, level)
    logger = logging.getLogger("pelton.test")
    for name in ("debug", "info", "warning", "error"):
        logger.log(getattr(logging, name.upper()), "said as %s", name)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.rpartition("said as ")[2].removesuffix('"}') for line in lines] == shown
    assert [line.startswith("{") for line in lines] == [style == "json"] * len(lines)


@pytest.mark.usefixtures("logging_as_it_was")
def test_setting_up_twice_does_not_write_twice(capsys) -> None:
    set_up_logging("json", "info")
    set_up_logging("text", "info")
    logging.getLogger("pelton.test").info("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.usefixtures("logging_as_it_was")
def test_uvicorns_own_words_are_not_repeated(capsys) -> None:
    set_up_logging("text", "info")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").error("something odd")
    assert capsys.readouterr().err.splitlines()[0].endswith("ERROR something odd")


@pytest.mark.usefixtures("logging_as_it_was")
def test_half_a_surrogate_pair_does_not_break_the_log() -> None:
    set_up_logging("text", "info")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    assert sys.__stderr__ is not None
    assert sys.__stderr__.errors == "backslashreplace"
    assert "\ud800".encode("utf-8", sys.__stderr__.errors) == b"\\ud800"


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize("style", ["text", "json"])
def test_no_key_gets_into_the_log_whoever_writes_it(style: str, capsys) -> None:
    key = make_key("robot", [Scope.INFER], 0.0).text
    set_up_logging(style, "debug")
    logger = logging.getLogger("somebody.else")
    logger.warning("asked with %s", key)
    try:
        raise ValueError(f"what is {key}?")
    except ValueError:
        logger.exception("failed")
    written = capsys.readouterr().err
    assert "asked with pelton_" in written
    assert "ValueError: what is pelton_" in written
    assert key.rpartition("_")[2] not in written
