"""No key and no session gets into the log, whoever writes the line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from pelton.access.keys import make_key
from pelton.access.redaction import RedactSecrets, redacted
from pelton.access.sessions import Sessions
from pelton.cli.log_format import JsonLines, TextLines
from pelton.records import Scope

TEXT, KEY = make_key("robot", [Scope.INFER], 0.0)
SECRET = TEXT.rpartition("_")[2]


@pytest.fixture(params=[TextLines, JsonLines, logging.Formatter])
def log(request) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(request.param())
    handler.addFilter(RedactSecrets())
    logger = logging.getLogger("access_test.below")
    parent = logging.getLogger("access_test")
    parent.addHandler(handler)
    parent.propagate = False
    yield logger, written
    parent.removeHandler(handler)


def test_a_key_is_hidden_wherever_it_stands_in_a_record(log) -> None:
    logger, written = log
    logger.error("asked with " + TEXT)
    logger.error("asked with %s and %d", TEXT, 7)
    logger.error("headers: %s", {"authorization": f"Bearer {TEXT}"})
    logger.error("headers: %(name)s", {"name": TEXT.encode()})
    logger.error("lower %s upper %s", TEXT.lower(), TEXT.upper())
    logger.error("cut off: %.30s", TEXT)
    assert written.getvalue().count("***") == 7
    assert SECRET[:8].lower() not in written.getvalue().lower()
    assert f"pelton_{KEY.id}_***" in written.getvalue()
    assert "and 7" in written.getvalue()


def test_a_key_is_hidden_in_tracebacks(log) -> None:
    logger, written = log
    try:
        raise ValueError(f"no user {TEXT}")
    except ValueError:
        logger.exception("it failed")
    assert SECRET not in written.getvalue()
    assert "it failed" in written.getvalue()
    assert f"ValueError: no user pelton_{KEY.id}_***" in written.getvalue()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://me:p%40ss@db/x?y=1", "postgresql://me:***@db/x?y=1"),
        ("at redis://:word@cache:6379/0, twice", "at redis://:***@cache:6379/0, twice"),
        (
            "postgresql:///x?host=/tmp&password=word&y=1",
            "postgresql:///x?host=/tmp&password=***&y=1",
        ),
        ("at http://127.0.0.1:50000 and me@home", "at http://127.0.0.1:50000 and me@home"),
        ("postgresql://me@db:5432/x", "postgresql://me@db:5432/x"),
    ],
)
def test_passwords_of_addresses_are_hidden(text: str, clean: str) -> None:
    assert redacted(text) == clean


def test_other_records_are_left_alone(log) -> None:
    logger, written = log
    logger.error("model %s of pelton_serving", "resnet")
    try:
        raise ValueError("odd")
    except ValueError:
        logger.exception("it failed")
    assert "model resnet of pelton_serving" in written.getvalue()
    assert "Traceback" in written.getvalue()
    assert "***" not in written.getvalue()


def test_a_record_whose_arguments_do_not_fit_is_written_without_them(
    log, capsys: pytest.CaptureFixture[str]
) -> None:
    logger, written = log
    logger.error("%d items", TEXT)
    logger.error("cut", TEXT)
    assert "%d items (with arguments that do not fit)" in written.getvalue()
    assert SECRET not in written.getvalue() + capsys.readouterr().err


def test_lines_of_json_stay_json() -> None:
    record = logging.makeLogRecord({"msg": "key %s", "args": (TEXT,), "levelname": "INFO"})
    assert RedactSecrets().filter(record)
    assert json.loads(JsonLines().format(record))["message"] == f"key pelton_{KEY.id}_***"


@pytest.mark.parametrize("tls", [False, True])
def test_sessions_and_their_tokens_are_hidden(tls: bool) -> None:
    opened = Sessions(tls).open("key", 0.0)
    value = opened.cookie.partition(";")[0].partition("=")[2]
    for text in (
        f"Cookie: a=b; {opened.cookie}",
        f"{{'x-csrf-token': '{opened.csrf}', 'cookie': 'pelton_session={value}'}}",
        f"X-CSRF-Token: {opened.csrf}",
    ):
        clean = redacted(text)
        assert value not in clean
        assert opened.csrf not in clean
        assert "***" in clean
    assert redacted(opened.cookie).endswith(opened.cookie.partition(";")[2])
